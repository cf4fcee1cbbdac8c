//! How much of the traffic each tier gets: the first one what it can bear, and the rest spills to the next.
//!
//! The problem: a tier that has lost half of its endpoints must not get all of the traffic, or the other half fails as
//! well; nor may it lose all of its traffic for the loss of one. The rule, after Envoy's priority levels: a tier bears its
//! healthy share by weight times 1.4, at most everything. In order, each takes what it bears, until nothing is left. If all
//! together bear less than everything, each takes its share of what they bear.
//!
//! - Backups get nothing until no other endpoint may be used; then the same rule spreads the traffic over their tiers.
//! - Endpoints that are drained are capacity that is missing; those without a weight never were any.
//! - In a panic, health is ignored because too few are well. Where there are several tiers and those who are well bear
//!   everything, there is no need for that, and whoever failed stays out. Otherwise all take requests, and the tiers with
//!   more endpoints that are well still get more of them.
//!
//! Source: Envoy's documentation, "Priority levels" and "Panic threshold".

/// Times its healthy share that a tier bears, as in Envoy: capacity is rarely planned so tightly that 72 % of the endpoints
/// could not do the work of all, and without room to spare the first failed check would send traffic elsewhere.
const OVERPROVISIONING: f64 = 1.4;

/// What a tier has, in sums of weights.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Capacity {
    /// Whether its members wait for all others to fail.
    pub(crate) backup: bool,
    /// Of all its candidates.
    pub(crate) total: u64,
    /// Of those that are available.
    pub(crate) available: u64,
    /// Of those that are available only as long as health is ignored.
    pub(crate) suspect: u64,
}

/// Who gets what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Distribution {
    /// Shares of the traffic by tier, which sum up to 1 unless nobody may be used.
    pub(crate) shares: Vec<f64>,
    /// Whether health is ignored.
    pub(crate) suspects: bool,
}

/// Distributes the traffic over tiers, those of backups last.
pub(crate) fn distribute(tiers: &[Capacity]) -> Distribution {
    let (first_choice, backups) = tiers.split_at(tiers.partition_point(|tier| !tier.backup));
    let available = |tier: &Capacity| tier.available;
    let suspects = first_choice.len() < 2 || first_choice.iter().map(|tier| borne(tier, available)).sum::<f64>() < 1.0;
    let any = |tier: &Capacity| tier.available + if suspects { tier.suspect } else { 0 };
    let spread = |group: &[Capacity]| fill(group, available).or_else(|| fill(group, any));
    let none = |group: &[Capacity]| vec![0.0; group.len()];
    let shares = match spread(first_choice) {
        Some(shares) => [shares, none(backups)].concat(),
        None => [none(first_choice), spread(backups).unwrap_or_else(|| none(backups))].concat(),
    };
    Distribution { shares, suspects }
}

/// The part of all traffic that a tier bears.
fn borne(tier: &Capacity, usable: impl Fn(&Capacity) -> u64) -> f64 {
    if tier.total == 0 { 0.0 } else { (usable(tier) as f64 / tier.total as f64 * OVERPROVISIONING).min(1.0) }
}

/// Shares within a group of tiers; `None` when none of them can take anything.
fn fill(tiers: &[Capacity], usable: impl Fn(&Capacity) -> u64) -> Option<Vec<f64>> {
    let borne: Vec<f64> = tiers.iter().map(|tier| borne(tier, &usable)).collect();
    let sum: f64 = borne.iter().sum();
    if sum <= 0.0 {
        return None;
    }
    let mut left = 1.0;
    let take = |borne: f64| {
        let share = (borne / sum.min(1.0)).min(left);
        left -= share;
        share
    };
    Some(borne.into_iter().map(take).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the shares in per cent of tiers from texts such as `3/5`: available of all, `3+1/5` with one suspect, and
    /// `b` before backups.
    fn check(tiers: &str, suspects: bool, expected: &[f64]) {
        let tier = |text: &str| {
            let (counts, total) = text.trim_start_matches('b').split_once('/').unwrap();
            let (available, suspect) = counts.split_once('+').unwrap_or((counts, "0"));
            let [available, suspect, total] = [available, suspect, total].map(|number| number.parse().unwrap());
            Capacity { backup: text.starts_with('b'), total, available, suspect }
        };
        let found = distribute(&tiers.split_whitespace().map(tier).collect::<Vec<_>>());
        let percent: Vec<f64> = found.shares.iter().map(|share| (share * 1000.0).round() / 10.0).collect();
        assert_eq!((percent.as_slice(), found.suspects), (expected, suspects), "{tiers}");
    }

    #[test]
    fn the_tables_of_envoys_documentation() {
        // Two levels, by the healthy share of the first.
        check("100/100 100/100", false, &[100.0, 0.0]);
        check("72/100 72/100", false, &[100.0, 0.0]);
        check("71/100 71/100", false, &[99.4, 0.6]);
        check("50/100 50/100", false, &[70.0, 30.0]);
        check("25/100 100/100", false, &[35.0, 65.0]);
        check("0/100 100/100", false, &[0.0, 100.0]);
        // Where all together bear less than everything.
        check("25/100 25/100", true, &[50.0, 50.0]);
        check("5/100 65/100", true, &[7.1, 92.9]);
        // Three levels.
        check("25/100 25/100 25/100", false, &[35.0, 35.0, 30.0]);
        check("25/100 25/100 10/100", true, &[41.7, 41.7, 16.7]);
        check("0/100 0/100 2/100", true, &[0.0, 0.0, 100.0]);
    }

    #[test]
    fn backups_wait_for_all_others() {
        check("1/100 b1/1", true, &[100.0, 0.0]);
        check("1/100 1/100 b1/1", true, &[50.0, 50.0, 0.0]);
        check("0/100 0/100 b1/1", true, &[0.0, 0.0, 100.0]);
        check("0/100 b1/2 b1/1", true, &[0.0, 70.0, 30.0]);
        check("b0/2", true, &[0.0]);
        check("", true, &[]);
        check("0/0 5/5", false, &[0.0, 100.0]);
    }

    #[test]
    fn a_panic_is_needless_where_others_bear_everything() {
        check("0+5/5 2/2", false, &[0.0, 100.0]);
        check("1+4/5 5/5", false, &[28.0, 72.0]);
        // Together they bear 56 %.
        check("1+4/5 1+4/5", true, &[50.0, 50.0]);
        check("0+5/5 1+4/5", true, &[0.0, 100.0]);
        check("0+5/5 0+5/5", true, &[100.0, 0.0]);
        // With one tier health is ignored as soon as the threshold says so.
        check("4+1/5", true, &[100.0]);
        check("0+5/5 b2/2", true, &[100.0, 0.0]);
    }
}
