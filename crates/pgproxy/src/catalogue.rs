//! Reads what a database's own catalogue says of its names: which functions are volatile, and of what only the primary may be asked.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pgroute::classify::Catalogue;

use crate::core::Core;
use crate::database::Database;
use crate::engage;
use crate::pool::Pool;

/// Functions, once per name and kind; sequences, unlogged tables, views over volatile functions and views over those; volatile functions of one
/// row, which can be written like a column; operators of volatile functions. Built-in functions leave no dependency, so that views are looked
/// into: their trees name functions by number.
const QUESTION: &str = "\
WITH RECURSIVE volatile AS (SELECT oid FROM pg_catalog.pg_proc WHERE provolatile = 'v'), \
pattern AS (SELECT ':(funcid|opfuncid) (' || pg_catalog.string_agg(oid::text, '|') || ') ' AS text FROM volatile), \
special AS (SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'S' OR relpersistence = 'u' \
 UNION SELECT r.ev_class FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class, pattern \
 WHERE c.relkind = 'v' AND c.oid >= 16384 AND r.ev_action::text ~ pattern.text \
 UNION SELECT r.ev_class FROM special JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass \
 AND d.refobjid = special.oid AND d.classid = 'pg_catalog.pg_rewrite'::regclass JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid) \
SELECT DISTINCT 'f', proname::text, provolatile::text, (oid < 16384)::text FROM pg_catalog.pg_proc \
UNION ALL SELECT DISTINCT 'p', relname::text, '', '' FROM pg_catalog.pg_class c JOIN special ON c.oid = special.oid \
UNION ALL SELECT DISTINCT 'p', proname::text, '', '' FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0] \
 WHERE p.provolatile = 'v' AND p.pronargs = 1 AND t.typtype = 'c' \
UNION ALL SELECT DISTINCT 'o', oprname::text, '', '' FROM pg_catalog.pg_operator WHERE oprcode IN (SELECT oid FROM volatile)";

/// Has the catalogues read that are due.
pub(crate) fn look(core: &Rc<Core>) {
    for database in core.process.databases() {
        if let Some(pool) = database.pools().pop()
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
        let mut lent = engage::acquire(&core, &database, &local).await.map_err(|failure| failure.message)?;
        let asked = lent.ask(QUESTION, timeout).await;
        if lent.is_clean() {
            local.give(Instant::now(), lent);
        }
        match asked {
            Ok(asked) => Ok(of_rows(&asked.rows)),
            Err(crate::backend::AskError::Refused(failure) | crate::backend::AskError::Broken(failure)) => {
                Err(failure.message)
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
        let [Some(kind), Some(name), Some(volatility), Some(is_builtin)] = &row[..] else { continue };
        match kind.as_str() {
            "f" => {
                let volatility = volatility.bytes().next().unwrap_or(b'v');
                catalogue.add_function(name, is_builtin == "true", volatility);
            }
            "p" => catalogue.add_primary(name),
            _ => catalogue.add_operator(name),
        }
    }
    catalogue
}
