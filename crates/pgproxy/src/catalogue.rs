//! Reads what a database's own catalogue says of its names: which functions are volatile, and of what only the primary may be asked.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pgroute::classify::Catalogue;

use crate::core::Core;
use crate::database::Database;
use crate::engage;
use crate::failure::Failure;
use crate::pool::Pool;

/// Has the catalogues read that are due.
pub(crate) fn look(core: &Rc<Core>) {
    for database in core.process.databases() {
        if let Some(pool) = database.any_pool()
            && database.has_clients()
            && database.is_catalogue_due(Instant::now())
        {
            tokio::task::spawn_local(refresh(Rc::clone(core), database, pool));
        }
    }
}

async fn refresh(core: Rc<Core>, database: Arc<Database>, pool: Arc<Pool>) {
    let local = core.local(&pool);
    let timeout = database.settings().timeouts.connect;
    let read = async {
        let mut lent = engage::acquire(&core, &database, &local, true).await.map_err(Failure::into_message)?;
        let asked = lent.ask(Catalogue::QUERY, timeout).await;
        if lent.is_clean() {
            // It may be somebody's own, on whatever core.
            lent.own = None;
            lent.release();
        }
        match asked {
            Ok(asked) => Ok(of_rows(&asked.rows)),
            Err(crate::backend::AskError::Refused(failure) | crate::backend::AskError::Broken(failure)) => {
                Err(failure.into_message())
            }
        }
    };
    match read.await {
        Ok(catalogue) => database.set_catalogue(catalogue),
        Err(error) => tracing::warn!(database = %database.name, %error, "the catalogue was not read"),
    }
}

fn of_rows(rows: &[Vec<Option<String>>]) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for row in rows {
        let [kind, name, detail] = &row[..] else { continue };
        let [kind, name, detail] = [kind, name, detail].map(|column| column.as_deref().unwrap_or_default());
        catalogue.add_row(kind, name, detail);
    }
    catalogue.settle();
    catalogue
}
