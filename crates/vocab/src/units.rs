//! Units as people write them in configuration: durations, byte sizes, shares.
