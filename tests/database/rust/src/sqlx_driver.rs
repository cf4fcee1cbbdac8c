//! `sqlx`.

use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures_util::{TryStreamExt, future};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgSslMode};
use sqlx::{Connection, Error, Executor, Row};

use crate::{CLIENTS, Scenario, large_rows, refused, same, until, variable};

pub const SCENARIOS: &[Scenario] = &[
    ("connect", || Box::pin(connects())),
    ("tls", || Box::pin(tls())),
    ("simple", || Box::pin(simple())),
    ("extended", || Box::pin(extended())),
    ("prepared", || Box::pin(prepared())),
    ("transaction", || Box::pin(transaction())),
    ("savepoint", || Box::pin(savepoint())),
    ("copy", || Box::pin(copy())),
    ("settings", || Box::pin(settings())),
    ("locks", || Box::pin(locks())),
    ("large", || Box::pin(large())),
    ("ddl", || Box::pin(ddl())),
    ("notify", || Box::pin(notify())),
    ("pool", || Box::pin(pool())),
    ("many", || Box::pin(many())),
];

fn options() -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str("postgres://")?.ssl_mode(PgSslMode::Disable);
    let options = options.host(&variable("PGHOST")).port(variable("PGPORT").parse()?);
    let options = options.database(&variable("PGDATABASE")).username(&variable("PGUSER"));
    Ok(options.password(&variable("PGPASSWORD")))
}

async fn connect() -> Result<PgConnection> {
    Ok(PgConnection::connect_with(&options()?).await?)
}

fn code(error: Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

async fn text(conn: &mut PgConnection, query: &str) -> Result<String> {
    Ok(sqlx::query_scalar(query).fetch_one(conn).await?)
}

async fn connects() -> Result<()> {
    let options = options()?.application_name("first").options([("geqo", "off")]);
    let mut conn = PgConnection::connect_with(&options).await?;
    same(text(&mut conn, "SHOW application_name").await?.as_str(), "first")?;
    same(text(&mut conn, "SHOW geqo").await?.as_str(), "off")?;
    conn.ping().await?;
    conn.close().await?;
    refused(PgConnection::connect_with(&options.password("wrong")).await.map_err(code), "28P01")
}

async fn tls() -> Result<()> {
    let authority = variable("AUTHORITY");
    if authority.is_empty() {
        bail!("absent");
    }
    let options = options()?.host("localhost").ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(authority);
    let mut conn = PgConnection::connect_with(&options).await?;
    same(text(&mut conn, "SELECT repeat('x', 1000000)").await?.len(), 1_000_000)
}

async fn simple() -> Result<()> {
    let mut conn = connect().await?;
    conn.execute("CREATE TEMP TABLE sqlx_simple (n int); INSERT INTO sqlx_simple VALUES (1), (2)").await?;
    same(conn.execute("SELECT n FROM sqlx_simple").await?.rows_affected(), 2)?;
    refused(conn.execute("SELEKT").await.map_err(code), "42601")
}

async fn extended() -> Result<()> {
    let mut conn = connect().await?;
    let row = sqlx::query("SELECT $1::int8 * 2, $2::text").bind(21_i64).bind("seven").fetch_one(&mut conn).await?;
    same((row.get::<i64, _>(0), row.get::<String, _>(1)), (42, "seven".to_owned()))?;
    let broken = sqlx::query("SELECT 1 / $1::int4").bind(0_i32).fetch_one(&mut conn).await;
    refused(broken.map_err(code), "22012")?;
    same(text(&mut conn, "SELECT 'on'").await?.as_str(), "on")
}

async fn prepared() -> Result<()> {
    let mut conn = PgConnection::connect_with(&options()?.statement_cache_capacity(5)).await?;
    for turn in 0..3_i32 {
        for number in 0..50_i32 {
            let text = format!("SELECT $1::int4 + {number}");
            same(sqlx::query_scalar::<_, i32>(&text).bind(turn).fetch_one(&mut conn).await?, turn + number)?;
        }
    }
    conn.clear_cached_statements().await?;
    same(text(&mut conn, "SELECT 'on'").await?.as_str(), "on")
}

async fn transaction() -> Result<()> {
    let mut conn = connect().await?;
    conn.execute("DROP TABLE IF EXISTS sqlx_tx; CREATE TABLE sqlx_tx (n int PRIMARY KEY)").await?;
    let mut transaction = conn.begin().await?;
    sqlx::query("INSERT INTO sqlx_tx VALUES ($1)").bind(1).execute(&mut *transaction).await?;
    drop(transaction);
    same(sqlx::query_scalar::<_, i64>("SELECT count(*) FROM sqlx_tx").fetch_one(&mut conn).await?, 0)?;
    let mut transaction = conn.begin_with("BEGIN READ ONLY").await?;
    let refusal = sqlx::query("INSERT INTO sqlx_tx VALUES (1)").execute(&mut *transaction).await;
    refused(refusal.map_err(code), "25006")?;
    Ok(transaction.rollback().await?)
}

async fn savepoint() -> Result<()> {
    let mut conn = connect().await?;
    conn.execute("DROP TABLE IF EXISTS sqlx_sp; CREATE TABLE sqlx_sp (n int PRIMARY KEY)").await?;
    let mut outer = conn.begin().await?;
    for number in 0..20_i32 {
        let mut inner = outer.begin().await?;
        match sqlx::query("INSERT INTO sqlx_sp VALUES ($1)").bind(number / 2).execute(&mut *inner).await {
            Ok(_) => inner.commit().await?,
            Err(error) => {
                same(code(error).as_deref(), Some("23505"))?;
                inner.rollback().await?;
            }
        }
    }
    outer.commit().await?;
    same(sqlx::query_scalar::<_, i64>("SELECT count(*) FROM sqlx_sp").fetch_one(&mut conn).await?, 10)
}

async fn copy() -> Result<()> {
    let mut conn = connect().await?;
    conn.execute("DROP TABLE IF EXISTS sqlx_copy; CREATE TABLE sqlx_copy (n int)").await?;
    let mut copy = conn.copy_in_raw("COPY sqlx_copy FROM STDIN").await?;
    copy.send("1\n2\n3\n".repeat(1000).as_bytes()).await?;
    same(copy.finish().await?, 3000)?;
    let mut copy = conn.copy_in_raw("COPY sqlx_copy FROM STDIN").await?;
    copy.send("4\n".as_bytes()).await?;
    copy.abort("the client gives up").await?;
    let parts: Vec<_> = conn.copy_out_raw("COPY sqlx_copy TO STDOUT").await?.try_collect().await?;
    same(parts.iter().map(|part| part.len()).sum::<usize>(), 6000)
}

async fn settings() -> Result<()> {
    let (mut one, mut two) = (connect().await?, connect().await?);
    one.execute("SET timezone = 'Asia/Tokyo'; SET search_path = pg_catalog").await?;
    for _ in 0..20 {
        same(text(&mut one, "SHOW timezone").await?.as_str(), "Asia/Tokyo")?;
        same(text(&mut two, "SHOW search_path").await?.as_str(), "\"$user\", public")?;
    }
    Ok(())
}

async fn locks() -> Result<()> {
    let (mut one, mut two) = (connect().await?, connect().await?);
    let lock = sqlx::postgres::PgAdvisoryLock::new("sqlx");
    let held = lock.acquire(&mut one).await?;
    same(lock.try_acquire(&mut two).await?.is_right(), true)?;
    held.release_now().await?;
    same(lock.try_acquire(&mut two).await?.is_left(), true)
}

async fn large() -> Result<()> {
    let mut conn = connect().await?;
    let query = sqlx::query("SELECT repeat('x', 1000) FROM generate_series(1, $1::int8)").bind(large_rows());
    let count = query.fetch(&mut conn).try_fold(0, |sum, _| future::ok(sum + 1)).await?;
    same(count, large_rows())
}

async fn ddl() -> Result<()> {
    let (mut one, mut two) = (connect().await?, connect().await?);
    one.execute("DROP TABLE IF EXISTS sqlx_ddl; CREATE TABLE sqlx_ddl (a int); INSERT INTO sqlx_ddl VALUES (1)")
        .await?;
    same(sqlx::query_scalar::<_, i32>("SELECT * FROM sqlx_ddl").fetch_one(&mut two).await?, 1)?;
    one.execute("ALTER TABLE sqlx_ddl ALTER a TYPE text").await?;
    // It has the statement, and knows its columns from before.
    let stale = sqlx::query_scalar::<_, i32>("SELECT * FROM sqlx_ddl").fetch_one(&mut two).await;
    refused(stale.map_err(code), "0A000")?;
    same(sqlx::query_scalar::<_, String>("SELECT a FROM sqlx_ddl").fetch_one(&mut two).await?.as_str(), "1")
}

async fn notify() -> Result<()> {
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options()?).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("sqlx_heard").await?;
    sqlx::query("SELECT pg_notify('sqlx_heard', 'payload')").execute(&pool).await?;
    same(listener.recv().await?.payload(), "payload")
}

async fn pool() -> Result<()> {
    let pool = PgPoolOptions::new().max_connections(20).connect_with(options()?).await?;
    for _ in 0..5 {
        let asked = (0..CLIENTS).map(|number| {
            let pool = pool.clone();
            async move { sqlx::query_scalar::<_, i32>("SELECT $1::int4").bind(number).fetch_one(&pool).await }
        });
        let found: Result<Vec<i32>, _> = future::join_all(asked).await.into_iter().collect();
        same(found?, (0..CLIENTS).collect())?;
    }
    pool.close().await;
    Ok(())
}

/// A client of many: its settings, its names and its rows are its own.
async fn work(number: i32, until: Instant) -> Result<()> {
    let mut conn = connect().await?;
    conn.execute(format!("SET work_mem = '{}kB'", 3000 + number).as_str()).await?;
    let mut turn = 0_i64;
    while Instant::now() < until {
        turn += 1;
        let row = sqlx::query("SELECT $1::int4, current_setting('work_mem')").bind(number).fetch_one(&mut conn).await?;
        same((row.get(0), row.get::<String, _>(1)), (number, format!("{}kB", 3000 + number)))?;
        let mut transaction = conn.begin().await?;
        sqlx::query("INSERT INTO sqlx_many VALUES ($1, $2)").bind(number).bind(turn).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM sqlx_many WHERE client = $1").bind(number);
    same(count.fetch_one(&mut conn).await?, turn)
}

async fn many() -> Result<()> {
    let mut first = connect().await?;
    first.execute("DROP TABLE IF EXISTS sqlx_many; CREATE TABLE sqlx_many (client int, turn int8)").await?;
    let until = until();
    let all = future::join_all(
        (0..CLIENTS).map(async |number| work(number, until).await.with_context(|| format!("client {number}"))),
    );
    all.await.into_iter().collect()
}
