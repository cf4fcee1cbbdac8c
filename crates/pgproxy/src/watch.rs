//! Watches the servers of databases: one connection to each, by which it is asked what it is, how far it is when somebody waits for that, and
//! whose end says at once that something has happened. All of it runs on one core.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use pgroute::position::{Lsn, Timeline};
use pgroute::servers::Observation;

use crate::backend::{Age, AskError, Backend};
use crate::cluster::Cluster;
use crate::connect::{self, Login};
use crate::core::{Core, Message};
use crate::database::Database;
use crate::failure::Failure;
use crate::lease;
use crate::planted::{Bug, is_planted};
use crate::seen::Seen;

/// What a server is asked: its role, its system, its timeline as a number or as the beginning of a file's name, and where it is. A replica's
/// control file has the timeline of its last restart point; who may know more is told by the receiver of the log.
const ROLE: &str = "\
SELECT pg_catalog.pg_is_in_recovery()::text, (SELECT system_identifier::text FROM pg_catalog.pg_control_system()), \
CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.lpad(pg_catalog.to_hex(GREATEST( \
 (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()), \
 (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()), \
 (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver))), 8, '0') || '0000000000000000' \
 ELSE pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) END, \
CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
 ELSE pg_catalog.pg_current_wal_insert_lsn() END::text";

/// Where a primary's log is on disk, and where it ends.
const PROBE: &str = "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), \
pg_catalog.pg_current_wal_flush_lsn()::text, pg_catalog.pg_current_wal_insert_lsn()::text";

/// How far a replica has come.
const SAMPLE: &str = "SELECT pg_catalog.pg_is_in_recovery()::text, pg_catalog.pg_last_wal_replay_lsn()::text";

/// What would be a mistake to ask.
const RECEIVED: &str = "SELECT pg_catalog.pg_is_in_recovery()::text, pg_catalog.pg_last_wal_receive_lsn()::text";

/// What is asked once: how long segments of the log are, and whether commits wait for the disk, whoever commits.
const ONCE: &str = "\
SELECT (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'), \
(pg_catalog.current_setting('synchronous_commit') <> 'off' \
 AND NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting WHERE setconfig::text LIKE '%synchronous_commit%') \
 AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proconfig::text LIKE '%synchronous_commit%'))::text";

/// How often the answers to that are asked for anew, beside every change of the schema that was seen.
const ONCE_INTERVAL: Duration = Duration::from_secs(60);

/// How often servers are asked, and connected to, while no primary is known: a promotion is to be seen soon.
const URGENT_INTERVAL: Duration = Duration::from_millis(200);

/// Between two samples of a replica, as long as somebody waits for it.
const SAMPLE_PAUSE: Duration = Duration::from_millis(1);

/// Has the servers of databases watched that are not yet.
pub(crate) fn look(core: &Rc<Core>) {
    for database in core.process.databases() {
        let cluster = database.cluster();
        if cluster.is_to_be_watched() {
            let lease = cluster.lease.clone();
            for server in 0..cluster.members.len() {
                let (of, cluster) = (Arc::downgrade(&database), Arc::downgrade(&cluster));
                if let Some(params) = lease.clone() {
                    let asker = lease::keep(Rc::clone(core), Weak::clone(&of), Weak::clone(&cluster), server, params);
                    tokio::task::spawn_local(asker);
                }
                tokio::task::spawn_local(watch(Rc::clone(core), of, cluster, server));
            }
        }
    }
}

/// Who watches a server, until the database has others.
struct Watcher {
    core: Rc<Core>,
    database: Arc<Database>,
    cluster: Arc<Cluster>,
    server: usize,
    next: Instant,
    segment_bytes: u64,
    once: Option<(Instant, pgroute::prepared::Changes)>,
    is_replica: bool,
}

async fn watch(core: Rc<Core>, database: Weak<Database>, cluster: Weak<Cluster>, server: usize) {
    loop {
        let (Some(database), Some(cluster)) = (database.upgrade(), cluster.upgrade()) else { return };
        if !Arc::ptr_eq(&database.cluster(), &cluster) || database.is_retired() {
            return;
        }
        let mut watcher = Watcher {
            core: Rc::clone(&core),
            database,
            cluster,
            server,
            next: Instant::now(),
            segment_bytes: 0,
            once: None,
            is_replica: false,
        };
        let why = watcher.serve().await;
        let address = &watcher.cluster.members[server].params.address;
        tracing::debug!(database = %watcher.database.name, server = %address, %why, "a server is not watched");
        watcher.broken();
        let pause = watcher.interval().min(URGENT_INTERVAL);
        drop(watcher);
        tokio::time::sleep(pause).await;
    }
}

impl Watcher {
    /// Watches it as long as a connection lasts; why it ended.
    async fn serve(&mut self) -> String {
        let Some(login) = self.database.watch_login(self.server) else {
            return "no user is known who could ask it".to_owned();
        };
        let mut backend = match self.connect(&login).await {
            Ok(backend) => backend,
            Err(why) => return why,
        };
        loop {
            if let Err(why) = self.ask(&mut backend).await {
                return why;
            }
            if !self.is_current() {
                return "the configuration names other servers".to_owned();
            }
            let urgent = self.is_sampled() || self.is_probed();
            if urgent {
                if self.is_sampled() {
                    tokio::time::sleep(SAMPLE_PAUSE).await;
                }
                continue;
            }
            let wake = self.cluster.members[self.server].wake.notified();
            tokio::select! {
                () = wake => {}
                () = tokio::time::sleep_until(self.next.into()) => {}
                // Nothing is due: it is the end, or a word before it.
                _ = poll_fn(|cx| backend.socket.poll_readable(cx)) => {
                    if !backend.socket.is_silent() {
                        return "the connection ended".to_owned();
                    }
                }
            }
        }
    }

    async fn connect(&self, login: &Login) -> Result<Backend, String> {
        let timeouts = &self.database.settings().timeouts;
        let timeout = timeouts.connect.min(self.database.settings().failover.watch_timeout);
        let server = &self.cluster.members[self.server].params;
        let connected = connect::connect(server, login, timeout).await.map_err(Failure::into_message)?;
        Ok(Backend::new(pgroute::pool::BackendId(0), self.core.id, connected, 1, Age::default()))
    }

    /// Asks what is due, and what somebody wants to know.
    async fn ask(&mut self, backend: &mut Backend) -> Result<(), String> {
        let now = Instant::now();
        if now >= self.next || self.cluster.is_suspect(self.server) {
            self.ask_role(backend).await?;
            self.next = now + self.interval();
        }
        if self.is_probed()
            && let Some(number) = self.cluster.causal.begin_probe()
        {
            let row = self.row(backend, PROBE).await?;
            let [file, flushed, inserted] = texts(&row)?;
            let timeline = Timeline::of_file(file).map_err(|error| error.to_string())?;
            let end = |text: &str| text.parse::<Lsn>().map(|position| position.end_of_last(self.segment_bytes));
            let (flushed, inserted) = (end(flushed).map_err(of)?, end(inserted).map_err(of)?);
            self.database.metrics.core(self.core.id).probes.increment();
            self.cluster.causal.probed(number, timeline, flushed, inserted);
        }
        if self.is_sampled()
            && let Some(number) = self.cluster.causal.begin_sample(self.server)
        {
            let sample = if is_planted(Bug::ReceivedIsReplayed) { RECEIVED } else { SAMPLE };
            let row = self.row(backend, sample).await?;
            let [is_replica, position] = texts(&row)?;
            if is_replica == "true" {
                self.cluster.causal.sampled(self.server, number, position.parse().map_err(of)?);
            } else {
                self.next = Instant::now();
            }
        }
        Ok(())
    }

    async fn ask_role(&mut self, backend: &mut Backend) -> Result<(), String> {
        let changes = self.database.changes();
        if self.once.is_none_or(|(at, seen)| at.elapsed() > ONCE_INTERVAL || seen != changes) {
            let row = self.row(backend, ONCE).await?;
            let [segment, is_synchronous] = texts(&row)?;
            self.segment_bytes = segment.parse().map_err(|_| "the length of segments is no number".to_owned())?;
            self.once = Some((Instant::now(), changes));
            if self.cluster.view().primary.is_none_or(|primary| primary == self.server) {
                self.cluster.causal.set_synchronous(is_synchronous == "true");
            }
        }
        let asked_at = Instant::now();
        let sample = self.cluster.causal.begin_sample(self.server);
        let row = self.row(backend, ROLE).await?;
        let [is_replica, system, file, position] = texts(&row)?;
        let position: Lsn = position.parse().map_err(of)?;
        let is_replica = is_replica == "true";
        let said = Observation {
            system: system.parse::<i64>().map_err(|_| "the system is no number".to_owned())? as u64,
            timeline: Timeline::of_file(file).map_err(of)?,
            is_replica,
            position: if is_replica { position } else { position.end_of_last(self.segment_bytes) },
        };
        self.is_replica = is_replica;
        let before = self.cluster.seen();
        // First, so that nothing is written to a primary which a restart would not know to be newer than the one before. What a replica says is
        // not kept: it may be none of these servers', and nobody would know the primary after a restart.
        if before.is_some_and(|seen| !is_replica && seen.system == said.system && seen.timeline <= said.timeline) {
            self.database.keep_seen(Seen { system: said.system, timeline: said.timeline }).await;
        }
        let out = self.cluster.observed(&self.database.settings(), asked_at, self.server, said);
        put_out(&self.core, &self.database, &self.cluster, &out);
        let is_primary = self.cluster.view().primary == Some(self.server);
        if let Some(seen) = self.cluster.seen().filter(|_| is_primary) {
            // Kept for the first time, elsewhere than before, or once more after a failure.
            self.database.keep_seen(seen).await;
        }
        self.warn_of_file(&out, said);
        if let Some(number) = sample.filter(|_| is_replica) {
            self.cluster.causal.sampled(self.server, number, position);
        }
        Ok(())
    }

    /// Says which file it is that puts the server out, where nobody is the primary because of that.
    fn warn_of_file(&self, out: &[usize], said: Observation) {
        if !out.contains(&self.server) || self.cluster.view().primary.is_some() {
            return;
        }
        let Some((file, kept)) = self.database.kept() else { return };
        if kept.system != said.system || kept.timeline > said.timeline {
            let (database, server) = (&self.database.name, &self.cluster.members[self.server].params.address);
            tracing::error!(
                %database, %server, file = %file.display(), system = kept.system, timeline = kept.timeline.0,
                its_system = said.system, its_timeline = said.timeline.0,
                "the server gets nothing, since the file of failover.state has a newer timeline or another system"
            );
        }
    }

    async fn row(&self, backend: &mut Backend, text: &str) -> Result<Vec<Option<String>>, String> {
        let timeout = self.database.settings().failover.watch_timeout;
        match backend.ask(text, timeout).await {
            Ok(asked) => asked.rows.into_iter().next().ok_or_else(|| "it answered nothing".to_owned()),
            Err(AskError::Refused(failure) | AskError::Broken(failure)) => Err(failure.into_message()),
        }
    }

    fn broken(&self) {
        let out = self.cluster.broken(&self.database.settings(), self.server);
        put_out(&self.core, &self.database, &self.cluster, &out);
    }

    fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.database.cluster(), &self.cluster) && !self.database.is_retired()
    }

    fn is_probed(&self) -> bool {
        self.cluster.view().primary == Some(self.server) && self.cluster.causal.is_probe_wanted()
    }

    fn is_sampled(&self) -> bool {
        self.is_replica && self.cluster.causal.is_awaited(self.server)
    }

    fn interval(&self) -> Duration {
        let interval = self.database.settings().failover.watch_interval;
        if self.cluster.view().primary.is_none() { interval.min(URGENT_INTERVAL) } else { interval }
    }
}

/// Servers that must not be used any more: what is connected to them is cut.
pub(crate) fn put_out(core: &Core, database: &Database, cluster: &Cluster, servers: &[usize]) {
    if servers.is_empty() {
        return;
    }
    for &server in servers {
        database.fence(&cluster.members[server].params.address);
    }
    let process = &core.process;
    for core in 0..process.cores.len() {
        // Whoever is not told sees it when it sends or hears something.
        let _behind = process.cores.try_send(core, Message::Fenced);
    }
}

/// The values of a row, all of which have to be there.
fn texts<const N: usize>(row: &[Option<String>]) -> Result<[&str; N], String> {
    let texts: Vec<_> = row.iter().map_while(|value| value.as_deref()).collect();
    texts.try_into().map_err(|_| "it answered something else".to_owned())
}

fn of(error: impl std::fmt::Display) -> String {
    error.to_string()
}
