//! The table: a row for each scenario, a column for each driver.

use super::drivers::Outcome;

/// What all drivers came to.
#[derive(Default)]
pub(super) struct Table {
    drivers: Vec<(&'static str, Vec<Outcome>)>,
}

impl Table {
    pub(super) fn add(&mut self, driver: &'static str, outcomes: Vec<Outcome>) {
        self.drivers.push((driver, outcomes));
    }

    pub(super) fn print(&self) {
        print!("{}", self.text());
    }

    fn text(&self) -> String {
        let mut rows: Vec<&str> = Vec::new();
        for outcome in self.drivers.iter().flat_map(|(_, outcomes)| outcomes) {
            if !rows.contains(&outcome.scenario.as_str()) {
                rows.push(&outcome.scenario);
            }
        }
        // What is ours stands last, whichever driver had it first.
        rows.sort_by_key(|row| ["many", "pinned", "left behind", "memory"].iter().position(|last| last == row));
        let line = |first: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:>14}")).collect();
            format!("{first:<12}{cells}\n")
        };
        let mut text = line("", self.drivers.iter().map(|(name, _)| (*name).to_owned()).collect());
        for row in rows {
            let cells = self.drivers.iter().map(|(_, outcomes)| cell(outcomes.iter().find(|one| one.scenario == row)));
            text += &line(row, cells.collect());
        }
        text
    }
}

fn cell(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => "-".to_owned(),
        Some(outcome) if outcome.is_absent() => "-".to_owned(),
        Some(outcome) => match (outcome.result(), &outcome.load) {
            (Ok(()), Some(load)) => format!("{:.1} %", load.pinned_percent()),
            (Ok(()), None) => "passed".to_owned(),
            (Err(_), _) => "FAILED".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_scenarios_and_columns_are_drivers() {
        let mut table = Table::default();
        let failed = Outcome::of("copy", Some("it hangs".into()));
        table.add("one", vec![Outcome::of("connect", None), failed, Outcome::of("memory", None)]);
        table.add("two", vec![Outcome::of("connect", None), Outcome::of("ddl", None)]);
        let text = table.text();
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let wanted: [&[&str]; 5] = [
            &["one", "two"],
            &["connect", "passed", "passed"],
            &["copy", "FAILED", "-"],
            &["ddl", "-", "passed"],
            &["memory", "passed", "-"],
        ];
        assert_eq!(words, wanted);
    }
}
