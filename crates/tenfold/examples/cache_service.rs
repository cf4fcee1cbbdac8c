//! A service of axum with SQLite that runs each strategy of the cache, and prints what it spared the database:
//! `cargo run --package tenfold --example cache_service`, and with `redis://127.0.0.1:6379` behind it to share what is cached.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Path as Segment, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use tenfold::cache::admin::{CacheAdmin, Peer};
use tenfold::cache::behind::{BehindParams, Receipt, SinkError};
use tenfold::cache::{Cache, Delivery, MIB, ValueSink};
use tenfold::metrics::Metrics;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What the shop sells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Product {
    id: i64,
    name: String,
    category: i64,
}

/// The database, which takes its time, and counts what it is asked.
#[derive(Clone)]
struct Database {
    connection: Arc<Mutex<Connection>>,
    reads: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
}

/// What one read takes, beside SQLite itself, which would be too quick to show anything.
const READ_TIME: Duration = Duration::from_millis(5);

impl Database {
    fn open() -> Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(
            "CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, category INTEGER NOT NULL);
             CREATE TABLE stock (id TEXT PRIMARY KEY, version TEXT NOT NULL, pieces INTEGER NOT NULL);",
        )?;
        for id in 0..100 {
            let row = params![id, format!("product {id}"), id % 10];
            connection.execute("INSERT INTO product VALUES (?1, ?2, ?3)", row)?;
        }
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self { connection, reads: Arc::default(), writes: Arc::default() })
    }

    fn with<T>(&self, run: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        run(&mut self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn product(&self, id: i64) -> rusqlite::Result<Option<Product>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(READ_TIME).await;
        self.with(|connection| {
            let sql = "SELECT id, name, category FROM product WHERE id = ?1";
            let read =
                |row: &rusqlite::Row<'_>| Ok(Product { id: row.get(0)?, name: row.get(1)?, category: row.get(2)? });
            connection.query_row(sql, [id], read).optional()
        })
    }

    async fn save(&self, product: &Product) -> rusqlite::Result<()> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let row = params![product.id, product.name, product.category];
        self.with(|connection| connection.execute("REPLACE INTO product VALUES (?1, ?2, ?3)", row)).map(drop)
    }

    /// How many reads there were while something ran.
    async fn reads_of(&self, run: impl Future<Output = Result<()>>) -> Result<u64> {
        let before = self.reads.load(Ordering::Relaxed);
        run.await?;
        Ok(self.reads.load(Ordering::Relaxed) - before)
    }
}

/// Pieces in stock change often, and reach the database in batches.
impl ValueSink<i64> for Database {
    async fn deliver(&self, batch: &[Delivery<i64>]) -> std::result::Result<Receipt, SinkError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let written = self.with(|connection| {
            let all = connection.transaction()?;
            for one in batch {
                let row = params![String::from_utf8_lossy(&one.key), one.version.to_string(), *one.value];
                // What is newer stays: a write may be told twice.
                all.execute(
                    "INSERT INTO stock VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE
                     SET version = excluded.version, pieces = excluded.pieces WHERE excluded.version > stock.version",
                    row,
                )?;
            }
            all.commit()
        });
        written.map(|()| Receipt::all()).map_err(|error| SinkError::Failed(error.to_string()))
    }
}

/// What the handlers share.
#[derive(Clone)]
struct Shop {
    database: Database,
    products: Cache<i64, Product>,
    stock: Cache<str, i64>,
    metrics: Metrics,
}

impl Shop {
    async fn open(folder: &Path, redis: Option<&str>) -> Result<Self> {
        let database = Database::open()?;
        let loads = database.clone();
        let mut products = Cache::builder("product")
            .memory(16 * MIB)
            .ttl(Duration::from_secs(60))
            .negative_ttl(Duration::from_secs(5))
            .stale_on_error(Duration::from_secs(60))
            .tags(|product: &Product| vec![format!("category:{}", product.category)])
            .loader(move |id| {
                let database = loads.clone();
                async move { database.product(id).await }
            })
            .refresh_ahead()
            .refresh_hot(100, Duration::from_secs(60));
        let mut stock = Cache::builder("stock")
            .memory(MIB)
            .ttl(Duration::from_secs(60))
            .write_behind(BehindParams::new(folder), database.clone());
        if let Some(url) = redis {
            (products, stock) = (products.redis(url), stock.redis(url));
        }
        let (products, stock) = (products.build().await?, stock.build().await?);
        let metrics = Metrics::default();
        metrics.watch(&products);
        metrics.watch(&stock);
        Ok(Self { database, products, stock, metrics })
    }

    fn router(&self) -> Result<Router> {
        // It answers this machine alone, which `peer` tells it of. Behind a proxy it needs a token.
        let admin = CacheAdmin::builder().without_token().keyed(&self.products).keyed(&self.stock).build()?;
        let admin = Router::new().fallback_service(admin).layer(middleware::from_fn(peer));
        let router = Router::new()
            .nest("/caches", admin)
            .route("/products/{id}", get(product).put(rename))
            .route("/categories/{id}/changed", get(changed))
            .route("/stock/{id}", get(pieces).put(count))
            .route("/metrics", get(metrics));
        Ok(router.with_state(self.clone()))
    }
}

/// Says who asks, as axum knows it.
async fn peer(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Peer(peer.ip()));
    next.run(request).await
}

/// Read-through: the cache loads by itself, and remembers that there is nothing.
async fn product(State(shop): State<Shop>, Segment(id): Segment<i64>) -> impl IntoResponse {
    match shop.products.read(&id).await {
        Ok(Some(product)) => Json((*product).clone()).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Write-through: the database first, then the cache.
async fn rename(State(shop): State<Shop>, Segment(id): Segment<i64>, name: String) -> StatusCode {
    let renamed = Product { id, name, category: id % 10 };
    let save = async |product: Arc<Product>| shop.database.save(&product).await;
    if shop.products.write_through(&id, renamed, save).await.is_ok() { StatusCode::OK } else { StatusCode::BAD_GATEWAY }
}

/// Somebody changed a whole category past the cache.
async fn changed(State(shop): State<Shop>, Segment(category): Segment<i64>) -> StatusCode {
    let _reach = shop.products.invalidate_tag(&format!("category:{category}")).await;
    StatusCode::OK
}

/// Cache-aside: the caller says how it loads.
async fn pieces(State(shop): State<Shop>, Segment(id): Segment<String>) -> impl IntoResponse {
    let load = async || {
        shop.database.reads.fetch_add(1, Ordering::Relaxed);
        let sql = "SELECT pieces FROM stock WHERE id = ?1";
        shop.database.with(|connection| connection.query_row(sql, [&id], |row| row.get::<_, i64>(0)).optional())
    };
    match shop.stock.find_or_load(&id, load).await {
        Ok(Some(pieces)) => pieces.to_string().into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Write-behind: it lasts, and the database has it later.
async fn count(State(shop): State<Shop>, Segment(id): Segment<String>, pieces: String) -> StatusCode {
    let Ok(pieces) = pieces.parse() else { return StatusCode::BAD_REQUEST };
    if shop.stock.write_behind(&id, pieces).await.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn metrics(State(shop): State<Shop>, headers: HeaderMap) -> impl IntoResponse {
    let page = shop.metrics.page(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    ([(header::CONTENT_TYPE, page.content_type)], page.text)
}

/// Asks the service as its clients do: what each strategy came to.
pub(crate) async fn run(folder: &Path, redis: Option<&str>) -> Result<Vec<String>> {
    let shop = Shop::open(folder, redis).await?;
    let listener = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let (address, router) = (listener.local_addr()?, shop.router()?);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, service).await });
    let lines = strategies(&shop, address).await?;
    // What is not in the database yet goes there before the end.
    let left = shop.stock.shutdown(Duration::from_secs(10)).await.keys_left;
    server.abort();
    let total: i64 =
        shop.database.with(|connection| connection.query_row("SELECT sum(pieces) FROM stock", [], |row| row.get(0)))?;
    Ok([lines, vec![format!("shutdown: {left} keys left, {total} pieces in the database")]].concat())
}

async fn strategies(shop: &Shop, address: SocketAddr) -> Result<Vec<String>> {
    let (client, database) = (reqwest::Client::new(), &shop.database);
    let url = |path: &str| format!("http://{address}{path}");
    let text =
        async |path: &str| Ok::<_, Box<dyn Error + Send + Sync>>(client.get(url(path)).send().await?.text().await?);
    let mut lines = Vec::new();

    let all = async {
        let asks = (0..200).map(|_| client.get(url("/products/7")).send());
        let asks: Vec<_> = asks.map(tokio::spawn).collect();
        for ask in asks {
            ask.await??.error_for_status()?;
        }
        Ok(())
    };
    lines.push(format!("stampede: 200 requests, {} read", database.reads_of(all).await?));

    let again = async { text("/products/7").await.map(drop) };
    let began = Instant::now();
    let reads = database.reads_of(again).await?;
    lines.push(format!("read-through: {reads} reads, quicker than the database: {}", began.elapsed() < READ_TIME));

    let missing = async {
        for _ in 0..10 {
            text("/products/999").await?;
        }
        Ok(())
    };
    lines.push(format!("negative: 10 requests for nothing, {} read", database.reads_of(missing).await?));

    client.put(url("/products/7")).body("better").send().await?.error_for_status()?;
    let renamed = text("/products/7").await?.contains("better");
    lines.push(format!("write-through: the next read has it: {renamed}"));

    database.save(&Product { id: 7, name: "changed elsewhere".into(), category: 7 }).await?;
    text("/categories/7/changed").await?;
    let elsewhere = text("/products/7").await?.contains("elsewhere");
    lines.push(format!("tags: one invalidation, the next read is of the database: {elsewhere}"));

    database.save(&Product { id: 7, name: "mended by hand".into(), category: 7 }).await?;
    // The same as `tenfold cache invalidate product --key 7 --at http://ADDRESS/caches`.
    let order = r#"{"cache": "product", "key": "7"}"#;
    let told = client.post(url("/caches")).header("Content-Type", "application/json").body(order).send().await?;
    // Without a Redis there is nobody else to tell.
    let reach = if told.text().await?.contains("everywhere") { "everywhere" } else { "here alone" };
    let by_hand = text("/products/7").await?.contains("by hand");
    lines.push(format!("by hand: invalidated {reach}, the next read is of the database: {by_hand}"));

    let before = database.writes.load(Ordering::Relaxed);
    for pieces in 0..100 {
        client.put(url("/stock/a")).body(pieces.to_string()).send().await?.error_for_status()?;
    }
    let seen = text("/stock/a").await?;
    shop.stock.flush(Duration::from_secs(10)).await;
    let fewer = database.writes.load(Ordering::Relaxed) - before < 100;
    lines.push(format!("write-behind: 100 writes, {seen} is read at once, fewer reach the database: {fewer}"));

    let page = text("/metrics").await?;
    let shown = page.contains("app_cache_lookups_total{cache=\"product\",tier=\"memory\"}");
    lines.push(format!("metrics: {shown}"));
    Ok(lines)
}

#[tokio::main]
async fn main() -> Result<()> {
    let redis = std::env::args().nth(1);
    let folder = std::env::temp_dir().join(format!("cache_service-{}", std::process::id()));
    let lines = run(&folder, redis.as_deref()).await;
    std::fs::remove_dir_all(&folder)?;
    lines?.iter().for_each(|line| println!("{line}"));
    Ok(())
}
