//! Pools, and what is expected of them.

use std::time::Duration;

use pgroute::pool::PoolParams;

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::Field;
use crate::quantity::Int;
use crate::raw::{RawDatabase, RawDatabasePool, RawExpect, RawUserPool};
use crate::source::Place;
use crate::value::{Off, Or};

use super::PgName;

/// Connections of a pool where nothing is said: they serve some thousands of short transactions a second.
const SIZE: u32 = 20;

/// Most connections of a pool, as its type has it.
const SIZE_MAX: u32 = 10_000;

/// How many connections the expected work keeps busy, and how many serve it well.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolEstimate {
    /// The database, as the file names it.
    pub database: String,
    /// Transactions in a second.
    pub per_second: f64,
    /// How long one keeps a connection.
    pub time: Duration,
    /// Connections that are busy on average: by Little's law, rate times time.
    pub busy: f64,
    /// Connections with which few have to wait: those that are busy, and twice their square root (Halfin and Whitt, 1981: with as
    /// many, about one in forty waits).
    pub suggested: usize,
    /// Connections that the pool has.
    pub size: usize,
}

fn estimate(raw: &RawExpect) -> Option<(f64, Duration, f64, u32)> {
    let (rate, time) = (&raw.rate.as_ref()?.value, raw.time.as_ref()?.value.0);
    let per_second = f64::from(rate.0) / rate.1.as_secs_f64();
    let busy = per_second * time.as_secs_f64();
    let suggested = (busy + 2.0 * busy.sqrt()).ceil().clamp(1.0, f64::from(SIZE_MAX)) as u32;
    Some((per_second, time, busy, suggested))
}

/// What is expected of a database, if the file says it.
pub(super) fn estimate_of(name: &Field<PgName>, raw: &RawDatabase) -> Option<PoolEstimate> {
    let (per_second, time, busy, suggested) = estimate(&raw.expect.as_ref()?.value)?;
    let size = raw.pool.value.size.as_ref()?.value.0 as usize;
    let suggested = suggested as usize;
    Some(PoolEstimate { database: name.value.0.clone(), per_second, time, busy, suggested, size })
}

/// Fills in what can be derived, so that the effective configuration shows it.
pub(super) fn resolve(raw: &mut RawDatabase) {
    let expected = raw.expect.as_ref().and_then(|field| estimate(&field.value)).map(|(.., suggested)| suggested);
    let pool = &mut raw.pool.value;
    let place = pool.place;
    if !pool.failed.contains(&"size") {
        pool.size.get_or_insert(Field { value: Int(expected.unwrap_or(SIZE)), place, set: false });
    }
    for (_, user) in &mut raw.user.value.tables {
        if let Some(field) = &mut user.pool {
            fill(&mut field.value, pool);
        }
    }
}

fn fill(own: &mut RawUserPool, pool: &RawDatabasePool) {
    let place = own.place;
    let other = |size: &Int<0, 10_000>| Field { value: *size, place, set: false };
    if own.size.is_none() {
        own.size = pool.size.as_ref().map(|size| Field { value: size.value, place, set: false });
    }
    own.min.get_or_insert_with(|| other(&pool.min.value));
    own.overflow.get_or_insert_with(|| other(&pool.overflow.value));
    own.reserve.get_or_insert_with(|| other(&pool.reserve.value));
    let time = |time: &crate::quantity::Time<1, 3_600_000>| Field { value: *time, place, set: false };
    own.overflow_idle.get_or_insert_with(|| time(&pool.overflow_idle.value));
    own.reserve_after.get_or_insert_with(|| time(&pool.reserve_after.value));
    own.acquire_timeout.get_or_insert_with(|| time(&pool.acquire_timeout.value));
    let life = |life: &Or<Off, _>| Field { value: life.clone(), place, set: false };
    own.idle_timeout.get_or_insert_with(|| life(&pool.idle_timeout.value));
    own.lifetime.get_or_insert_with(|| life(&pool.lifetime.value));
    own.ping_after.get_or_insert_with(|| life(&pool.ping_after.value));
}

/// A time, or none.
fn life<const MIN: u64, const MAX: u64>(value: &Or<Off, crate::quantity::Time<MIN, MAX>>) -> Option<Duration> {
    value.value().map(|time| time.0)
}

/// The pools of a database.
pub(super) fn params(key: &str, raw: &RawDatabase, sink: &mut Sink) -> PoolParams {
    let pool = &raw.pool.value;
    let params = PoolParams {
        size: pool.size.as_ref().map_or(SIZE, |size| size.value.0) as usize,
        min: pool.min.value.0 as usize,
        overflow: pool.overflow.value.0 as usize,
        overflow_idle: pool.overflow_idle.value.0,
        reserve: pool.reserve.value.0 as usize,
        reserve_after: pool.reserve_after.value.0,
        acquire_timeout: pool.acquire_timeout.value.0,
        idle_timeout: life(&pool.idle_timeout.value),
        lifetime: life(&pool.lifetime.value),
        ping_after: life(&pool.ping_after.value),
    };
    check(&format!("{key}.pool"), &params, (pool.min.place, pool.reserve_after.place), sink);
    params
}

/// The pools of a user, for whom those of the database hold otherwise.
pub(super) fn of_user(key: &str, raw: &RawUserPool, pool: &PoolParams, sink: &mut Sink) -> PoolParams {
    let number = |own: Option<u32>, other: usize| own.map_or(other, |own| own as usize);
    let min = raw.min.as_ref();
    let params = PoolParams {
        size: number(raw.size.as_ref().map(|field| field.value.0), pool.size),
        min: number(min.map(|field| field.value.0), pool.min),
        overflow: number(raw.overflow.as_ref().map(|field| field.value.0), pool.overflow),
        overflow_idle: raw.overflow_idle.as_ref().map_or(pool.overflow_idle, |field| field.value.0),
        reserve: number(raw.reserve.as_ref().map(|field| field.value.0), pool.reserve),
        reserve_after: raw.reserve_after.as_ref().map_or(pool.reserve_after, |field| field.value.0),
        acquire_timeout: raw.acquire_timeout.as_ref().map_or(pool.acquire_timeout, |field| field.value.0),
        idle_timeout: raw.idle_timeout.as_ref().map_or(pool.idle_timeout, |field| life(&field.value)),
        lifetime: raw.lifetime.as_ref().map_or(pool.lifetime, |field| life(&field.value)),
        ping_after: raw.ping_after.as_ref().map_or(pool.ping_after, |field| life(&field.value)),
    };
    let place = |place: Option<Place>| place.unwrap_or(raw.place);
    let reserve_after = place(raw.reserve_after.as_ref().map(|field| field.place));
    check(&format!("{key}.pool"), &params, (place(min.map(|field| field.place)), reserve_after), sink);
    params
}

/// What contradicts itself within a pool.
fn check(key: &str, params: &PoolParams, (min, reserve_after): (Place, Place), sink: &mut Sink) {
    if params.min > params.size {
        let message = format!("more are kept open than there may be: the size is {}", params.size);
        let diagnostic = Diagnostic::error(min, format!("{key}.min"), message);
        sink.push(diagnostic.fix(format!("write min = {}, or a larger size", params.size)));
    }
    if params.reserve > 0 && params.reserve_after >= params.acquire_timeout {
        let message =
            "who has waited for so long is refused by acquire_timeout already, so the reserve is never opened";
        let diagnostic = Diagnostic::error(reserve_after, format!("{key}.reserve_after"), message);
        sink.push(diagnostic.fix("lower it, or raise acquire_timeout".to_owned()));
    }
}
