//! How many connections each client of a listener has.
//!
//! A client's connections are spread over the cores, so the count is the one thing here that a lock guards: taken when a
//! connection opens and when it closes, never in between, and only where there is a cap. Clients fall into shards by a
//! hash with a seed of its own, so that nobody can choose to meet. There is an entry for each client that has a
//! connection, so there are never more of them than connections.
//!
//! Whoever has an address of IPv6 usually has a /64 of them, so these count as one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use limit::Prefixes;

use crate::state::ListenerState;

/// Locks, so that cores seldom meet at one.
const SHARDS: usize = 16;

/// Connections by client.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    hasher: RandomState,
    shards: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
}

/// A connection among those of its client, until this is dropped.
#[derive(Debug)]
pub(crate) struct ClientPlace {
    listener: Arc<ListenerState>,
    client: IpAddr,
}

impl ClientPlace {
    /// Takes a place for a connection of a client, if it has fewer than `max`.
    pub(crate) fn take(listener: &Arc<ListenerState>, address: IpAddr, max: u32) -> Option<Self> {
        let client = counted_as(address);
        listener.clients.add(client, max).then(|| Self { listener: Arc::clone(listener), client })
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.listener.clients.remove(self.client);
    }
}

impl Clients {
    fn shard(&self, client: IpAddr) -> std::sync::MutexGuard<'_, HashMap<IpAddr, u32>> {
        let at = self.hasher.hash_one(client) as usize % SHARDS;
        // Nothing in here panics half-way.
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, client: IpAddr, max: u32) -> bool {
        let mut shard = self.shard(client);
        let count = shard.entry(client).or_insert(0);
        let is_free = *count < max;
        if is_free {
            *count += 1;
        }
        is_free
    }

    fn remove(&self, client: IpAddr) {
        let mut shard = self.shard(client);
        if let Some(count) = shard.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&client);
            }
        }
    }
}

/// The client that an address belongs to.
fn counted_as(address: IpAddr) -> IpAddr {
    Prefixes::default().cut(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(clients: &Clients) -> usize {
        clients.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    #[test]
    fn each_client_has_its_own_count_and_nothing_is_left_behind() {
        let clients = Clients::default();
        let addresses: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        for &address in &addresses {
            assert!(clients.add(address, 2) && clients.add(address, 2) && !clients.add(address, 2));
        }
        clients.remove(addresses[7]);
        assert!(clients.add(addresses[7], 2) && !clients.add(addresses[7], 2));
        assert_eq!(held(&clients), 100);
        for &address in &addresses {
            clients.remove(address);
            clients.remove(address);
        }
        assert_eq!(held(&clients), 0);
    }

    #[test]
    fn networks_of_ipv6_count_as_one() {
        let check = |one: &str, other: &str, same: bool| {
            let key = |text: &str| counted_as(text.parse().unwrap());
            assert_eq!(key(one) == key(other), same, "{one} {other}");
        };
        check("2001:db8::1", "2001:db8::ffff:1", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
        check("::ffff:10.0.0.1", "10.0.0.1", true);
        check("10.0.0.1", "10.0.0.2", false);
    }
}
