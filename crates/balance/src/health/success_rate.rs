//! Ejection of endpoints that fail more often than their peers.
//!
//! The problem: an endpoint that fails every tenth request never fails five in a row, and a fixed bound on failures
//! cannot tell an endpoint that is ill from a database that is slow for all of them. The rule: per interval, endpoints are
//! compared with each other, and those are outliers whose success rate is below the mean by more than so many standard
//! deviations. The worst come first, since not all of them may be ejected at once.
//!
//! - The mean is that of the rates, each endpoint counting the same. Too few requests say nothing about an endpoint, and
//!   too few endpoints nothing about what is usual: then nobody is judged.
//! - Among five endpoints no single one can be further from the mean than two deviations, and among four than 1.73. Hence
//!   1.9 deviations and at least five endpoints: one bad endpoint is found, however bad it is.
//! - Where nearly all rates are equal, the deviation is next to nothing and any difference is many deviations. So an
//!   endpoint is left alone within a `margin` of the mean; Envoy has no such bound and ejects for a tenth of a per cent.
//! - Where all fail alike, chance alone spreads the rates, and 1.9 deviations of that are passed by every thirtieth
//!   endpoint. So the failures must also be more than chance explains if the endpoint failed as often as the mean.
//!
//! Sources: Envoy's documentation, "Outlier detection", on success rates; Chernoff's bound on the tail of a binomial
//! distribution, which unlike the normal approximation also holds where failures are rare.

use super::change::Cause;
use super::params::SuccessRateParams;

/// What an endpoint did within an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The endpoint.
    pub id: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Those of them that failed, or were answered by a status of the server's fault.
    pub failures: u64,
}

/// What chance brings about once in 30,000 judgements or less is not taken for chance. Ten endpoints that are judged every
/// 10 s are judged 86,400 times a day; in simulation it is the bound's caution that makes it less than one ejection.
const CHANCE: f64 = 1.0 / 30_000.0;

/// What a sum of rates may be off by.
const ROUNDING: f64 = 1e-9;

/// The samples that are outliers among the others, the lowest rate first, and why.
pub(super) fn outliers(params: &SuccessRateParams, samples: &[Sample]) -> Vec<(u64, Cause)> {
    let rated: Vec<(f64, Sample)> = samples
        .iter()
        .filter(|sample| sample.requests >= u64::from(params.requests_min).max(1))
        .map(|&sample| (1.0 - sample.failures.min(sample.requests) as f64 / sample.requests as f64, sample))
        .collect();
    // Alone, an endpoint is the mean of all.
    if rated.len() < (params.hosts_min as usize).max(2) {
        return Vec::new();
    }
    let count = rated.len() as f64;
    let mean = rated.iter().map(|(rate, _)| rate).sum::<f64>() / count;
    let variance = rated.iter().map(|(rate, _)| (rate - mean).powi(2)).sum::<f64>() / count;
    let unusual = (params.deviations * variance.sqrt()).max(params.margin) + ROUNDING;
    let mut outliers: Vec<(f64, Sample)> = rated
        .into_iter()
        .filter(|(rate, sample)| mean - rate > unusual && chance(*rate, mean, sample.requests) < CHANCE)
        .collect();
    outliers.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.id.cmp(&b.1.id)));
    let mean_permille = (mean * 1000.0).round() as u32;
    let cause = |sample: Sample| Cause::SuccessRate {
        requests: sample.requests,
        failures: sample.failures.min(sample.requests),
        mean_permille,
    };
    outliers.into_iter().map(|(_, sample)| (sample.id, cause(sample))).collect()
}

/// How likely it is at most that so many requests come to this rate of successes or a lower one when each succeeds with
/// the probability `mean`, which is above the rate.
fn chance(rate: f64, mean: f64, requests: u64) -> f64 {
    // The share times the logarithm of how many times more it is than it should be; 0 of anything has no share in that.
    let term = |share: f64, expected: f64| if share > 0.0 { share * (share / expected).ln() } else { 0.0 };
    let divergence = term(rate, mean) + term(1.0 - rate, 1.0 - mean);
    (-divergence * requests as f64).exp()
}
