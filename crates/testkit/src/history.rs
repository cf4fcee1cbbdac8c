//! What was read and written when, and whether that can be.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};

/// Bytes of an operation in a file: six numbers, little-endian.
pub const OPERATION_BYTES: usize = 48;

/// An operation that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Whether it is a write that was acknowledged, and not a read.
    pub is_write: bool,
    /// Of what.
    pub key: u64,
    /// What was read or written. No two writes have the same; 0 is what was there before all of them.
    pub value: u64,
    /// When it began and ended, by one clock for all processes.
    pub began: u64,
    /// See `began`.
    pub ended: u64,
    /// Who did it.
    pub process: u64,
}

impl Operation {
    /// Its form in a file.
    pub fn bytes(&self) -> [u8; OPERATION_BYTES] {
        let mut bytes = [0; OPERATION_BYTES];
        let numbers = [u64::from(self.is_write), self.key, self.value, self.began, self.ended, self.process]
            .map(u64::to_le_bytes);
        bytes.copy_from_slice(numbers.as_flattened());
        bytes
    }

    /// Reads a file of them. What was not written to its end is left out.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        Ok(bytes.chunks_exact(OPERATION_BYTES).map(Self::of).collect())
    }

    fn of(bytes: &[u8]) -> Self {
        let number = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
        Self {
            is_write: number(0) == 1,
            key: number(1),
            value: number(2),
            began: number(3),
            ended: number(4),
            process: number(5),
        }
    }
}

/// Who is promised to read what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Every process.
    All,
    /// The process that wrote it.
    Own,
}

/// Values of each key, in the order in which the database had them.
pub type Rows = HashMap<u64, Vec<u64>>;

/// Finds reads that returned something older than what was acknowledged before they began, or what nobody wrote: a sentence for each.
pub fn violations(rows: &Rows, operations: &[Operation], promise: Promise) -> Vec<String> {
    let place = |row: &Vec<u64>| row.iter().zip(1_u64..).map(|(value, at)| (*value, at)).collect::<HashMap<_, _>>();
    let orders: HashMap<u64, HashMap<u64, u64>> = rows.iter().map(|(key, row)| (*key, place(row))).collect();
    let order = |key: u64, value: u64| match value {
        0 => Some(0),
        value => orders.get(&key).and_then(|order| order.get(&value)).copied(),
    };
    let whose = |operation: &Operation| (operation.key, if promise == Promise::Own { operation.process } else { 0 });
    let mut floors: HashMap<(u64, u64), Vec<(u64, u64)>> = HashMap::new();
    for write in operations.iter().filter(|operation| operation.is_write) {
        let order = order(write.key, write.value).unwrap_or(0);
        floors.entry(whose(write)).or_default().push((write.ended, order));
    }
    for floors in floors.values_mut() {
        floors.sort_unstable();
        // From each acknowledgement on, nothing older than the newest of all so far.
        let mut newest = 0;
        for (_, order) in floors {
            newest = newest.max(*order);
            *order = newest;
        }
    }
    let mut found = Vec::new();
    for read in operations.iter().filter(|operation| !operation.is_write) {
        let floor = floors.get(&whose(read)).map_or(0, |floors| {
            let before = floors.partition_point(|(ended, _)| *ended < read.began);
            before.checked_sub(1).map_or(0, |last| floors[last].1)
        });
        match order(read.key, read.value) {
            None => found.push(format!("key {}: {} was never written", read.key, read.value)),
            Some(order) if order < floor => found.push(format!(
                "key {}: process {} read number {order} from {} to {}, and {floor} was acknowledged",
                read.key, read.process, read.began, read.ended
            )),
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: u64, began: u64, ended: u64, process: u64) -> Operation {
        Operation { is_write: true, key: 1, value, began, ended, process }
    }

    fn read(value: u64, began: u64, ended: u64, process: u64) -> Operation {
        Operation { is_write: false, key: 1, value, began, ended, process }
    }

    #[test]
    fn a_read_is_wrong_if_something_newer_was_acknowledged_before_it_began() {
        let rows = Rows::from([(1, vec![70, 50, 60])]);
        let check = |operations: &[Operation], expected: usize| {
            assert_eq!(violations(&rows, operations, Promise::All).len(), expected, "{operations:?}");
        };
        check(&[write(70, 0, 5, 1), read(70, 6, 7, 2)], 0);
        check(&[write(70, 0, 5, 1), read(0, 6, 7, 2)], 1);
        // While the write is under way, either is right, and so is what is newer.
        check(&[write(70, 0, 5, 1), read(0, 5, 9, 2), read(60, 6, 7, 2)], 0);
        // The database's order counts, and not that of acknowledgements.
        check(&[write(60, 0, 5, 1), write(50, 0, 9, 1), read(50, 10, 11, 2)], 1);
        check(&[write(50, 0, 5, 1), write(60, 0, 9, 1), read(50, 6, 7, 2)], 0);
        check(&[read(99, 0, 1, 1)], 1);
    }

    #[test]
    fn a_promise_to_the_own_process_binds_it_alone() {
        let rows = Rows::from([(1, vec![70])]);
        let operations = [write(70, 0, 5, 1), read(0, 6, 7, 2), read(0, 6, 7, 1)];
        assert_eq!(violations(&rows, &operations, Promise::Own).len(), 1);
        assert_eq!(violations(&rows, &operations, Promise::All).len(), 2);
    }

    #[test]
    fn what_is_written_to_files_is_read() {
        let operations = [write(70, 1, 5, 3), read(0, 6, 7, 2)];
        let bytes: Vec<u8> = operations.iter().flat_map(Operation::bytes).collect();
        let folder = crate::TempDir::new().unwrap();
        let path = folder.path().join("history");
        std::fs::write(&path, &bytes[..bytes.len()]).unwrap();
        assert_eq!(Operation::read(&path).unwrap(), operations);
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(Operation::read(&path).unwrap(), operations[..1]);
    }
}
