//! Prints the table of `docs/metrics.md`.

fn main() {
    print!("{}", telemetry::family::markdown());
}
