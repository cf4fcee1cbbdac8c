//! Soft purges of the same, one after the other: since when what was there before one of them is stale.

/// Runs of soft purges of the same that are told apart.
pub(super) const RUNS_MAX: usize = 8;

/// Soft purges of the same, one after the other: by the number of the last, and since when what is older than that is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) at: u32,
}

/// Soft purges of the same since the last hard one, the oldest run first. Both numbers and seconds grow.
#[derive(Clone, Debug, Default)]
pub(super) struct Soft {
    /// No longer than they need, for there may be as many of these as there are marks.
    runs: Box<[Run]>,
}

impl Soft {
    /// There was one more, in any order.
    pub(super) fn note(&mut self, number: u64, at: u32) {
        let mut runs = Vec::with_capacity(RUNS_MAX + 1);
        runs.extend_from_slice(&self.runs);
        let place = runs.partition_point(|run| run.number < number);
        runs.insert(place, Run { number, at });
        // What an earlier one met was met by the later ones too.
        let mut first = u32::MAX;
        for run in runs.iter_mut().rev() {
            first = first.min(run.at);
            run.at = first;
        }
        // Nothing tells those of the same second apart.
        runs.dedup_by(|later, earlier| {
            let is_same = later.at == earlier.at;
            earlier.number = if is_same { later.number } else { earlier.number };
            is_same
        });
        if runs.len() > RUNS_MAX {
            merge(&mut runs);
        }
        self.runs = runs.as_slice().into();
    }

    /// There was a hard one: what is older is gone, and not stale.
    pub(super) fn forget(&mut self, hard: u64) {
        let first = self.runs.partition_point(|run| run.number <= hard);
        if first > 0 {
            self.runs = self.runs[first..].into();
        }
    }

    /// The number of the last, 0 for none.
    pub(super) fn latest(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.number)
    }

    /// All of them, the oldest first.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Since when something of before is stale, if it is.
    pub(super) fn stale_since(&self, since: u64) -> Option<u32> {
        self.runs.get(self.runs.partition_point(|run| run.number <= since)).map(|run| run.at)
    }
}

/// Takes two runs for one: those by which what lies between them is said to be stale for the fewest times as long as it is. So runs are the
/// longer the older they are, and few do for any time.
fn merge(runs: &mut Vec<Run>) {
    let Some(last) = runs.last().map(|run| run.at) else { return };
    let age = |run: &Run| f64::from(last - run.at);
    let times = |pair: &[Run]| age(&pair[0]) / age(&pair[1]);
    let pairs = runs.windows(2).map(times).enumerate();
    if let Some((place, _)) = pairs.min_by(|one, other| one.1.total_cmp(&other.1)) {
        runs[place + 1].at = runs[place].at;
        runs.remove(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_purged_every_minute_has_most_of_its_time() {
        const MONTH: u32 = 30 * 24 * 60;
        let mut soft = Soft::default();
        (1..=MONTH).for_each(|minute| soft.note(minute.into(), minute * 60));
        for age in [1, 2, 5, 10, 60, 600, 24 * 60, 7 * 24 * 60] {
            let stale_since = soft.stale_since((MONTH - age).into()).unwrap() / 60;
            let told = MONTH - stale_since;
            assert!((age - 1..=10 * age).contains(&told), "{age}: {told}");
        }
    }
}
