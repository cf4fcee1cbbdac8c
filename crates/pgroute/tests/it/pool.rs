mod model;

use std::time::{Duration, Instant};

use pgroute::pool::{Action, BackendId, Core, Counts, Pool, PoolParams, Ticket, Wish};

const SECOND: Duration = Duration::from_secs(1);
const HERE: Core = Core(0);

fn params() -> PoolParams {
    PoolParams { size: 2, lifetime: None, idle_timeout: None, ..PoolParams::default() }
}

/// A pool and what it said last.
struct Table {
    pool: Pool,
    now: Instant,
    out: Vec<Action>,
}

impl Table {
    fn new(params: PoolParams) -> Self {
        Self { pool: Pool::new(params), now: Instant::now(), out: Vec::new() }
    }

    fn acquire(&mut self, ticket: u64) -> Vec<Action> {
        self.ask(ticket, Wish::Any)
    }

    fn ask(&mut self, ticket: u64, wish: Wish) -> Vec<Action> {
        self.pool.acquire(self.now, Ticket(ticket), HERE, wish, &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn opened(&mut self, backend: u64) -> Vec<Action> {
        self.pool.opened(self.now, BackendId(backend), HERE, 0.0, &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn acquire_on(&mut self, core: u16, ticket: u64) {
        self.pool.acquire(self.now, Ticket(ticket), Core(core), Wish::Any, &mut self.out);
        assert_eq!(std::mem::take(&mut self.out), []);
    }

    fn release(&mut self, backend: u64) -> Vec<Action> {
        self.pool.release(self.now, BackendId(backend), HERE, &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn after(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.pool.sweep(self.now, &mut self.out);
        std::mem::take(&mut self.out)
    }

    /// With all of its backends lent to tickets from 0 on.
    fn lent(params: PoolParams) -> Self {
        let mut table = Self::new(params);
        for number in 0..table.size() {
            assert_eq!(table.acquire(number), [Action::Open(BackendId(number))]);
            assert_eq!(table.opened(number), [give(number, number)]);
        }
        table
    }

    fn size(&self) -> u64 {
        2
    }
}

/// The second backend in a slot.
fn again(slot: u64) -> BackendId {
    BackendId(1 << 32 | slot)
}

fn give(ticket: u64, backend: u64) -> Action {
    Action::Give { ticket: Ticket(ticket), backend: BackendId(backend), ping: false, is_owned: false }
}

#[test]
fn who_came_first_is_served_first() {
    let mut table = Table::lent(params());
    assert_eq!((table.acquire(10), table.acquire(11)), (vec![], vec![]));
    assert_eq!(table.release(1), [give(10, 1)]);
    assert!(table.pool.cancel(Ticket(11)) && !table.pool.cancel(Ticket(11)));
    assert_eq!(table.acquire(12), []);
    assert_eq!(table.release(0), [give(12, 0)]);
    assert_eq!(table.release(0), []);
    assert_eq!(table.pool.counts(), Counts { opening: 0, idle: 1, lent: 1 });
}

#[test]
fn what_was_opened_goes_to_who_has_waited_longest() {
    let mut table = Table::new(params());
    assert_eq!(table.acquire(1), [Action::Open(BackendId(0))]);
    assert_eq!(table.acquire(2), [Action::Open(BackendId(1))]);
    assert_eq!(table.acquire(3), []);
    assert_eq!(table.opened(1), [give(1, 1)]);
    assert_eq!(table.release(1), [give(2, 1)]);
    assert_eq!(table.opened(0), [give(3, 0)]);
}

#[test]
fn the_one_given_back_last_is_lent_first_and_those_of_the_own_core_before_others() {
    let mut table = Table::lent(params());
    table.release(0);
    table.release(1);
    assert_eq!(table.acquire(5), [give(5, 1)]);
    table.pool.release(table.now, BackendId(1), Core(1), &mut table.out);
    assert_eq!(table.acquire(6), [give(6, 0)]);
    assert_eq!(table.acquire(7), [give(7, 1)], "one of another core is better than none");
}

#[test]
fn who_owns_one_gets_it_whenever_it_is_idle() {
    let mut table = Table::new(PoolParams { size: 3, ..params() });
    let own = |ticket, backend| Action::Give {
        ticket: Ticket(ticket),
        backend: BackendId(backend),
        ping: false,
        is_owned: true,
    };
    for number in 0..2 {
        assert_eq!(table.ask(number, Wish::ToOwn), [Action::Open(BackendId(number))]);
        assert_eq!(table.opened(number), [own(number, number)]);
        table.release(number);
    }
    assert_eq!(table.ask(5, Wish::Own(BackendId(0))), [give(5, 0)]);
    // Its own is lent: it takes another one's rather than wait.
    assert_eq!(table.ask(6, Wish::Own(BackendId(0))), [give(6, 1)]);
    // Who wants one to own waits for one that is opened, whatever comes back.
    assert_eq!(table.ask(7, Wish::ToOwn), [Action::Open(BackendId(2))]);
    assert_eq!((table.release(0), table.pool.pressing(), table.pool.waiting()), (vec![], 0, 1));
    assert_eq!(table.opened(2), [own(7, 2)]);
    // All are somebody's.
    assert!(!table.pool.has_room(table.now));
    assert_eq!(table.ask(8, Wish::ToOwn), [give(8, 0)]);
    assert_eq!((table.release(0), table.release(1), table.release(2)), (vec![], vec![], vec![]));
    // What is nobody's goes first, and whoever comes next may have it.
    table.pool.disown(table.now, BackendId(1), true, &mut table.out);
    assert_eq!(table.ask(9, Wish::Any), [give(9, 1)]);
    table.release(1);
    assert!(table.pool.has_room(table.now));
    assert_eq!(table.ask(10, Wish::ToOwn), [own(10, 1)]);
}

#[test]
fn who_waits_for_one_to_own_takes_any_when_none_can_be_opened() {
    let mut table = Table::new(PoolParams { size: 2, ..params() });
    table.ask(0, Wish::ToOwn);
    table.opened(0);
    table.release(0);
    assert_eq!(table.ask(1, Wish::ToOwn), [Action::Open(BackendId(1))]);
    let retry_at = table.now + SECOND;
    table.pool.open_failed(table.now, BackendId(1), retry_at, &mut table.out);
    assert_eq!(std::mem::take(&mut table.out), [give(1, 0)]);
    assert!(!table.pool.has_room(table.now) && table.pool.has_room(retry_at));
}

#[test]
fn when_what_sessions_begin_with_changes_those_under_way_keep_theirs() {
    let mut table = Table::new(PoolParams { size: 3, ..params() });
    for number in 0..3 {
        table.ask(number, if number == 0 { Wish::ToOwn } else { Wish::Any });
        table.opened(number);
    }
    table.release(0);
    table.release(1);
    table.pool.renew(table.now, &mut table.out);
    assert_eq!(std::mem::take(&mut table.out), [Action::Close(BackendId(1))], "one is owned and one lent");
    assert_eq!(table.release(2), [Action::Close(BackendId(2))]);
    assert_eq!(table.ask(5, Wish::Own(BackendId(0))), [give(5, 0)]);
    assert_eq!(table.release(0), []);
    table.pool.disown(table.now, BackendId(0), true, &mut table.out);
    assert_eq!(std::mem::take(&mut table.out), [Action::Close(BackendId(0))]);
}

#[test]
fn whoever_comes_after_a_change_gets_no_backend_from_before() {
    let own = |ticket, backend| Action::Give {
        ticket: Ticket(ticket),
        backend: BackendId(backend),
        ping: false,
        is_owned: true,
    };
    let mut table = Table::new(PoolParams { size: 2, ..params() });
    for number in 0..2 {
        table.ask(number, Wish::ToOwn);
        table.opened(number);
    }
    table.release(0);
    table.release(1);
    table.pool.renew(table.now, &mut table.out);
    assert_eq!(table.ask(2, Wish::ToOwn), [Action::Close(BackendId(1)), Action::Open(BackendId(1 | 1 << 32))]);
    assert_eq!(table.opened(1 | 1 << 32), [own(2, 1 | 1 << 32)]);
    assert_eq!(table.ask(3, Wish::Own(BackendId(0))), [give(3, 0)], "the other one stays for its owner");
    assert_eq!(table.ask(4, Wish::Any), []);
    assert_eq!(
        table.release(0),
        [Action::Close(BackendId(0)), Action::Open(BackendId(1 << 32))],
        "somebody else waits"
    );
    assert_eq!(table.opened(1 << 32), [give(4, 1 << 32)]);
}

#[test]
fn waiting_ends() {
    let mut table = Table::lent(PoolParams { acquire_timeout: 3 * SECOND, ..params() });
    table.acquire(10);
    table.after(SECOND);
    table.acquire(11);
    assert_eq!(table.pool.next_deadline(), Some(table.now + 2 * SECOND));
    assert_eq!(table.after(2 * SECOND), [Action::TimeOut(Ticket(10))]);
    assert_eq!(table.release(0), [give(11, 0)]);
}

#[test]
fn overflow_and_reserve_open_under_pressure_and_go_again() {
    let params = PoolParams { overflow: 1, reserve: 1, reserve_after: SECOND, overflow_idle: 2 * SECOND, ..params() };
    let mut table = Table::lent(params);
    assert_eq!(table.acquire(10), [Action::Open(BackendId(2))]);
    assert_eq!(table.opened(2), [give(10, 2)]);
    assert_eq!(table.acquire(11), []);
    assert_eq!(table.pool.next_deadline(), Some(table.now + SECOND));
    assert_eq!(table.after(SECOND), [Action::Open(BackendId(3))]);
    assert_eq!(table.opened(3), [give(11, 3)]);
    // The reserve goes at once, what is beyond the size after some idleness.
    assert_eq!(table.release(3), [Action::Close(BackendId(3))]);
    assert_eq!(table.release(2), []);
    assert_eq!(table.after(2 * SECOND), [Action::Close(BackendId(2))]);
    assert_eq!(table.pool.counts(), Counts { opening: 0, idle: 0, lent: 2 });
}

#[test]
fn backends_go_when_they_are_idle_or_old_but_for_the_least() {
    let params = PoolParams { min: 1, idle_timeout: Some(10 * SECOND), lifetime: Some(100 * SECOND), ..params() };
    let mut table = Table::new(params);
    assert_eq!(table.after(SECOND), [Action::Open(BackendId(0))], "the least is opened before anybody asks");
    assert_eq!(table.opened(0), []);
    assert_eq!((table.acquire(1), table.acquire(2)), (vec![give(1, 0)], vec![Action::Open(BackendId(1))]));
    table.opened(1);
    table.release(0);
    table.release(1);
    assert_eq!(table.after(10 * SECOND), [Action::Close(BackendId(0))]);
    assert_eq!(table.after(10 * SECOND), [], "the least stays");
    assert_eq!(table.pool.next_deadline(), Some(table.now + 80 * SECOND));
    assert_eq!(table.after(80 * SECOND), [Action::Close(BackendId(1)), Action::Open(again(0))]);
    table.opened(again(0).0);
    table.acquire(3);
    table.now += 200 * SECOND;
    let old = again(0);
    assert_eq!(table.release(old.0), [Action::Close(old), Action::Open(BackendId(2 << 32))], "old when it comes back");
    // Whatever is heard late of those that have gone is about nobody.
    assert_eq!((table.release(old.0), table.opened(0)), (vec![], vec![Action::Close(BackendId(0))]));
    table.pool.lost(table.now, old, &mut table.out);
    assert_eq!((table.pool.counts().opening, table.out.len()), (1, 0));
}

#[test]
fn what_was_idle_for_long_is_asked_first() {
    let mut table = Table::lent(PoolParams { ping_after: Some(5 * SECOND), ..params() });
    table.release(0);
    table.now += 5 * SECOND;
    assert_eq!(
        table.acquire(5),
        [Action::Give { ticket: Ticket(5), backend: BackendId(0), ping: true, is_owned: false }]
    );
}

#[test]
fn failures_are_not_repeated_at_once() {
    let mut table = Table::new(params());
    table.acquire(1);
    let retry_at = table.now + SECOND;
    table.pool.open_failed(table.now, BackendId(0), retry_at, &mut table.out);
    assert_eq!((table.acquire(2), table.pool.next_deadline()), (vec![], Some(retry_at)));
    let opened = table.after(SECOND);
    assert_eq!(opened, [Action::Open(again(0)), Action::Open(BackendId(1))]);
}

#[test]
fn a_pause_holds_what_is_asked_for_and_a_reconnect_makes_all_anew() {
    let mut table = Table::lent(params());
    table.release(0);
    table.pool.pause();
    assert_eq!((table.acquire(5), table.release(1)), (vec![], vec![]));
    assert!(table.pool.is_still());
    table.pool.resume(table.now, &mut table.out);
    assert_eq!(std::mem::take(&mut table.out), [give(5, 1)]);
    table.pool.reconnect(table.now, &mut table.out);
    assert_eq!(std::mem::take(&mut table.out), [Action::Close(BackendId(0))]);
    assert_eq!(table.release(1), [Action::Close(BackendId(1))]);
}

#[test]
fn a_pool_that_is_made_smaller_shrinks_while_others_wait() {
    let mut table = Table::lent(PoolParams { overflow: 0, ..params() });
    assert_eq!(table.acquire(5), []);
    table.pool.change(table.now, PoolParams { size: 1, overflow: 0, ..params() }, &mut table.out);
    assert_eq!(table.release(0), [Action::Close(BackendId(0))]);
    assert_eq!(table.release(1), [give(5, 1)]);
}

#[test]
fn what_grew_old_in_a_pause_is_not_lent() {
    let mut table = Table::lent(PoolParams { lifetime: Some(10 * SECOND), ..params() });
    table.release(0);
    table.pool.pause();
    assert_eq!(table.acquire(5), []);
    table.now += 20 * SECOND;
    table.pool.resume(table.now, &mut table.out);
    assert_eq!(std::mem::take(&mut table.out), [Action::Close(BackendId(0)), Action::Open(again(0))]);
}

#[test]
fn who_is_near_overtakes_by_little() {
    let ms = Duration::from_millis;
    let mut table = Table::lent(params());
    table.acquire_on(1, 2);
    table.now += ms(3);
    table.acquire_on(1, 3);
    table.acquire_on(0, 4);
    table.now += ms(4);
    // Seven milliseconds after the first.
    table.acquire_on(0, 5);
    assert_eq!(table.release(0), [give(4, 0)], "near, and three milliseconds later");
    assert_eq!(table.release(1), [give(2, 1)], "nobody near came soon enough");
    assert_eq!(table.release(0), [give(5, 0)], "four after the first who waits now");
    assert_eq!(table.release(1), [give(3, 1)]);
}
