//! `tokio-postgres`.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
use tokio_postgres::{Client, Config, Error, IsolationLevel, NoTls};

use crate::{CLIENTS, Scenario, large_rows, refused, same, until, variable};

pub const SCENARIOS: &[Scenario] = &[
    ("connect", || Box::pin(connects())),
    ("simple", || Box::pin(simple())),
    ("extended", || Box::pin(extended())),
    ("prepared", || Box::pin(prepared())),
    ("cursor", || Box::pin(cursor())),
    ("transaction", || Box::pin(transaction())),
    ("savepoint", || Box::pin(savepoint())),
    ("pipeline", || Box::pin(pipeline())),
    ("copy", || Box::pin(copy())),
    ("types", || Box::pin(types())),
    ("settings", || Box::pin(settings())),
    ("cancel", || Box::pin(cancel())),
    ("large", || Box::pin(large())),
    ("ddl", || Box::pin(ddl())),
    ("many", || Box::pin(many())),
];

fn config() -> Result<Config> {
    let mut config = Config::new();
    config.host(variable("PGHOST")).port(variable("PGPORT").parse()?).dbname(variable("PGDATABASE"));
    config.user(variable("PGUSER")).password(variable("PGPASSWORD"));
    Ok(config)
}

async fn connect_with(config: Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn connect() -> Result<Client> {
    Ok(connect_with(config()?).await?)
}

fn code(error: Error) -> Option<String> {
    error.code().map(|code| code.code().to_owned())
}

async fn text(client: &Client, query: &str) -> Result<String> {
    Ok(client.query_one(query, &[]).await?.get(0))
}

async fn connects() -> Result<()> {
    let mut config = config()?;
    config.application_name("first").options("-c geqo=off");
    let client = connect_with(config.clone()).await?;
    same(text(&client, "SHOW application_name").await?.as_str(), "first")?;
    same(text(&client, "SHOW geqo").await?.as_str(), "off")?;
    config.password("wrong");
    refused(connect_with(config).await.map_err(code), "28P01")
}

async fn simple() -> Result<()> {
    let client = connect().await?;
    let messages = client.simple_query("SELECT 1; SELECT 2, 3").await?;
    same(messages.len() >= 4, true)?;
    refused(client.batch_execute("SELECT 1; SELEKT 2").await.map_err(code), "42601")?;
    Ok(client.check_connection().await?)
}

async fn extended() -> Result<()> {
    let client = connect().await?;
    let row = client.query_one("SELECT $1::int8 * 2, $2::text", &[&21_i64, &"seven"]).await?;
    same((row.get::<_, i64>(0), row.get::<_, &str>(1)), (42, "seven"))?;
    refused(client.query_one("SELECT 1 / $1::int4", &[&0_i32]).await.map_err(code), "22012")?;
    let long = vec![7_u8; 1_000_000];
    same(client.query_one("SELECT $1::bytea", &[&long]).await?.get::<_, Vec<u8>>(0) == long, true)
}

async fn prepared() -> Result<()> {
    let client = connect().await?;
    let mut kept = Vec::new();
    for number in 0..100 {
        kept.push(client.prepare(&format!("SELECT $1::int4 + {number}")).await?);
    }
    for turn in 0..2 {
        for (number, statement) in (0..).zip(&kept) {
            same(client.query_one(statement, &[&turn]).await?.get::<_, i32>(0), turn + number)?;
        }
    }
    kept.truncate(10);
    refused(client.prepare("SELEKT").await.map_err(code), "42601")?;
    same(client.query_one(&kept[3], &[&1_i32]).await?.get::<_, i32>(0), 4)
}

async fn cursor() -> Result<()> {
    let mut client = connect().await?;
    let transaction = client.transaction().await?;
    let portal = transaction.bind("SELECT n FROM generate_series(1, 1000) n", &[]).await?;
    let mut total = 0;
    loop {
        let rows = transaction.query_portal(&portal, 300).await?;
        total += rows.iter().map(|row| row.get::<_, i32>(0)).sum::<i32>();
        if rows.is_empty() {
            break;
        }
    }
    transaction.commit().await?;
    same(total, 500_500)
}

async fn transaction() -> Result<()> {
    let mut client = connect().await?;
    client.batch_execute("DROP TABLE IF EXISTS tokio_tx; CREATE TABLE tokio_tx (n int PRIMARY KEY)").await?;
    let readonly = client.build_transaction().read_only(true).isolation_level(IsolationLevel::Serializable);
    let transaction = readonly.start().await?;
    refused(transaction.execute("INSERT INTO tokio_tx VALUES (1)", &[]).await.map_err(code), "25006")?;
    refused(transaction.execute("SELECT 1", &[]).await.map_err(code), "25P02")?;
    transaction.rollback().await?;
    // What is dropped is taken back, without anybody waiting for it.
    let transaction = client.transaction().await?;
    transaction.execute("INSERT INTO tokio_tx VALUES (2)", &[]).await?;
    drop(transaction);
    same(client.query_one("SELECT count(*) FROM tokio_tx", &[]).await?.get::<_, i64>(0), 0)
}

async fn savepoint() -> Result<()> {
    let mut client = connect().await?;
    client.batch_execute("DROP TABLE IF EXISTS tokio_sp; CREATE TABLE tokio_sp (n int PRIMARY KEY)").await?;
    let mut transaction = client.transaction().await?;
    for number in 0..20_i32 {
        let inner = transaction.transaction().await?;
        match inner.execute("INSERT INTO tokio_sp VALUES ($1)", &[&(number / 2)]).await {
            Ok(_) => inner.commit().await?,
            Err(error) => {
                same(code(error).as_deref(), Some("23505"))?;
                inner.rollback().await?;
            }
        }
    }
    transaction.commit().await?;
    same(client.query_one("SELECT count(*) FROM tokio_sp", &[]).await?.get::<_, i64>(0), 10)
}

async fn pipeline() -> Result<()> {
    let client = connect().await?;
    let statement = client.prepare("SELECT 100 / ($1::int4 % 7)").await?;
    // All are sent before the first is answered; some fail, each on its own.
    let values: Vec<i32> = (0..500).collect();
    let found = future::join_all(values.iter().map(async |value| client.query_one(&statement, &[value]).await)).await;
    for (value, row) in values.iter().zip(found) {
        match row {
            Ok(row) => same(row.get::<_, i32>(0), 100 / (value % 7))?,
            Err(error) => same((value % 7, code(error).as_deref()), (0, Some("22012")))?,
        }
    }
    Ok(())
}

async fn copy() -> Result<()> {
    let client = connect().await?;
    client.batch_execute("DROP TABLE IF EXISTS tokio_copy; CREATE TABLE tokio_copy (n int, t text)").await?;
    let mut sink = pin!(client.copy_in("COPY tokio_copy FROM STDIN").await?);
    for number in 0..20_000 {
        sink.send(Bytes::from(format!("{number}\trow {number}\n"))).await?;
    }
    same(sink.as_mut().finish().await?, 20_000)?;
    let out = client.copy_out("COPY tokio_copy TO STDOUT (FORMAT binary)").await?;
    let bytes: usize = out.map_ok(|part| part.len()).try_fold(0, |sum, len| future::ok(sum + len)).await?;
    same(bytes > 20_000 * 14, true)?;
    let mut sink = pin!(client.copy_in("COPY tokio_copy FROM STDIN").await?);
    sink.send(Bytes::from("no number\trow\n")).await?;
    refused(sink.as_mut().finish().await.map_err(code), "22P02")?;
    // One that is given up takes nothing in.
    let mut sink = Box::pin(client.copy_in::<_, Bytes>("COPY tokio_copy FROM STDIN").await?);
    sink.send(Bytes::from("1\trow\n")).await?;
    drop(sink);
    same(client.query_one("SELECT count(*) FROM tokio_copy", &[]).await?.get::<_, i64>(0), 20_000)
}

async fn types() -> Result<()> {
    let client = connect().await?;
    client.batch_execute("DROP TYPE IF EXISTS tokio_mood; CREATE TYPE tokio_mood AS ENUM ('good', 'bad')").await?;
    let row = client
        .query_one(
            "SELECT $1::bool, $2::float8, $3::int4[], $4::text, 'bad'::tokio_mood::text",
            &[&true, &0.1_f64, &vec![Some(1), None], &None::<String>],
        )
        .await?;
    same((row.get(0), row.get(1), row.get::<_, Vec<Option<i32>>>(2)), (true, 0.1_f64, vec![Some(1), None]))?;
    // The driver asks the catalogue what the type is.
    let statement = client.prepare("SELECT $1::tokio_mood").await?;
    same((row.get::<_, Option<String>>(3), statement.params()[0].name()), (None, "tokio_mood"))
}

async fn settings() -> Result<()> {
    let (one, two) = (connect().await?, connect().await?);
    one.batch_execute("SET timezone = 'Asia/Tokyo'; SET search_path = pg_catalog").await?;
    for _ in 0..20 {
        same(text(&one, "SHOW timezone").await?.as_str(), "Asia/Tokyo")?;
        same(text(&one, "SHOW search_path").await?.as_str(), "pg_catalog")?;
        same(text(&two, "SHOW search_path").await?.as_str(), "\"$user\", public")?;
    }
    Ok(())
}

async fn cancel() -> Result<()> {
    let client = connect().await?;
    let token = client.cancel_token();
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    };
    let (found, sent) = tokio::join!(client.batch_execute("SELECT pg_sleep(20)"), later);
    sent?;
    refused(found.map_err(code), "57014")?;
    Ok(client.check_connection().await?)
}

async fn large() -> Result<()> {
    let client = connect().await?;
    let rows = client.query_raw("SELECT repeat('x', 1000) FROM generate_series(1, $1::int8)", [large_rows()]).await?;
    let mut rows = pin!(rows);
    let mut count = 0;
    while let Some(row) = rows.next().await {
        count += i64::from(row?.get::<_, &str>(0).len() == 1000);
    }
    same(count, large_rows())
}

async fn ddl() -> Result<()> {
    let (one, two) = (connect().await?, connect().await?);
    one.batch_execute(
        "DROP TABLE IF EXISTS tokio_ddl; CREATE TABLE tokio_ddl (a int); INSERT INTO tokio_ddl VALUES (1)",
    )
    .await?;
    let statement = two.prepare("SELECT * FROM tokio_ddl").await?;
    same(two.query_one(&statement, &[]).await?.get::<_, i32>(0), 1)?;
    one.batch_execute("ALTER TABLE tokio_ddl ALTER a TYPE text").await?;
    // It knows its columns from before, wherever it is sent.
    refused(two.query_one(&statement, &[]).await.map_err(code), "0A000")?;
    let row = two.query_one("SELECT * FROM tokio_ddl", &[]).await?;
    same(row.get::<_, &str>(0), "1")
}

/// A client of many: its settings, its names and its rows are its own.
async fn work(number: i32, until: Instant) -> Result<()> {
    let mut client = connect().await?;
    client.batch_execute(&format!("SET work_mem = '{}kB'", 3000 + number)).await?;
    let own = client.prepare("SELECT $1::int4, current_setting('work_mem')").await?;
    let put = client.prepare("INSERT INTO tokio_many VALUES ($1, $2)").await?;
    let mut turn = 0;
    while Instant::now() < until {
        turn += 1;
        let row = client.query_one(&own, &[&number]).await?;
        same((row.get(0), row.get::<_, String>(1)), (number, format!("{}kB", 3000 + number)))?;
        let mut transaction = client.transaction().await?;
        transaction.execute(&put, &[&number, &turn]).await?;
        let inner = transaction.transaction().await?;
        refused(inner.query_one("SELECT 1 / ($1::int4 - $1)", &[&turn]).await.map_err(code), "22012")?;
        inner.rollback().await?;
        transaction.commit().await?;
    }
    let count = client.query_one("SELECT count(*) FROM tokio_many WHERE client = $1", &[&number]).await?;
    same(count.get::<_, i64>(0), i64::from(turn))
}

async fn many() -> Result<()> {
    let first = connect().await?;
    first.batch_execute("DROP TABLE IF EXISTS tokio_many; CREATE TABLE tokio_many (client int, turn int)").await?;
    let until = until();
    let all = future::join_all(
        (0..CLIENTS).map(async |number| work(number, until).await.with_context(|| format!("client {number}"))),
    );
    all.await.into_iter().collect()
}
