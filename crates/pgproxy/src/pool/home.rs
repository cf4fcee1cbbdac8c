//! The task of a pool: it makes connections, and does what time asks for.

use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use pgroute::pool::BackendId;

use super::Pool;
use crate::backend::Backend;
use crate::connect::connect;
use crate::core::Core;

/// How often a pool is looked at even if nothing is known to be due: idle times begin without a word, and servers end what is idle.
const LOOK: Duration = Duration::from_millis(500);

/// Runs on a core until the pool has gone.
pub(crate) async fn run(pool: Weak<Pool>, core: Rc<Core>) {
    let mut next = Instant::now();
    let mut looked_at = next;
    loop {
        if let Some(pool) = pool.upgrade() {
            // Nobody else holds it for as long as this waits: it goes soon after the last one who does.
            tokio::select! {
                () = pool.nudge.notified() => {}
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
        let Some(pool) = pool.upgrade() else { return };
        for backend in pool.take_opens() {
            tokio::task::spawn_local(open(Arc::clone(&pool), backend, Rc::clone(&core)));
        }
        let now = Instant::now();
        if now.saturating_duration_since(looked_at) >= LOOK {
            looked_at = now;
            pool.drop_ended(now);
        }
        next = pool.sweep(now).map_or(now + LOOK, |next| next.clamp(now + Duration::from_millis(1), now + LOOK));
    }
}

async fn open(pool: Arc<Pool>, id: BackendId, core: Rc<Core>) {
    let (target, age) = (pool.target(), pool.age());
    match connect(&target.server, &target.login, target.connect_timeout).await {
        Ok(connected) => {
            pool.template.store(Arc::new(Some(connected.reports.clone())));
            let backend = Backend::new(id, core.id, connected, target.statements_max, age);
            pool.opened(Box::new(backend), fastrand::f64());
        }
        Err(failure) => {
            let server = &target.server.address;
            tracing::warn!(user = %pool.user, %server, code = %failure.code, error = %failure.message, "no connection to the server");
            pool.open_failed(id, failure);
        }
    }
    // Whoever waited for it alone may take any now, and what cores keep.
    if !pool.is_calm() {
        core.recall_all(&pool);
    }
}
