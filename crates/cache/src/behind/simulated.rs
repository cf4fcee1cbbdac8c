//! A disk that loses power: what was not synced may be there, wholly, in part, or not at all.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::disk::{Disk, DiskFile};

/// What survives a loss of power does so in pieces of so many bytes.
const SECTOR_BYTES: usize = 16;

#[derive(Clone, Debug, Default)]
struct Inode {
    content: Vec<u8>,
    /// What lasts.
    lasting: Vec<u8>,
    /// A sync failed: the system takes what was to be synced for clean, and later syncs seem to succeed.
    is_broken: bool,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    /// The names that last, and those after each change since.
    lasting_names: Vec<BTreeMap<String, usize>>,
    /// Operations before the power goes.
    power_left: Option<u64>,
    /// Of a thousand operations, so many fail.
    failures_per_mille: u32,
}

#[derive(Clone, Debug)]
pub(super) struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
pub(super) struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
}

impl SimulatedDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: fastrand::Rng::with_seed(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            lasting_names: vec![BTreeMap::new()],
            power_left: None,
            failures_per_mille: 0,
        })))
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The power goes within the operation after so many others.
    pub(super) fn cut_power_after(&self, operations: u64) {
        self.state(|state| state.power_left = Some(operations));
    }

    pub(super) fn keep_power(&self) {
        self.state(|state| state.power_left = None);
    }

    pub(super) fn has_power(&self) -> bool {
        self.state(|state| state.power_left != Some(0))
    }

    pub(super) fn fail(&self, per_mille: u32) {
        self.state(|state| state.failures_per_mille = per_mille);
    }

    /// The power is back, and what lasted is there.
    pub(super) fn reboot(&self) {
        self.state(|state| {
            let chosen = state.random.usize(..state.lasting_names.len());
            let before = state.lasting_names[0].clone();
            state.names = state.lasting_names.swap_remove(chosen);
            // A removal may last later than what was done after it.
            for (name, inode) in before {
                if state.random.bool() {
                    state.names.entry(name).or_insert(inode);
                }
            }
            state.lasting_names = vec![state.names.clone()];
            state.power_left = None;
            for inode in &mut state.inodes {
                inode.lose_power(&mut state.random);
            }
        });
    }

    /// Flips a bit of what a file has.
    pub(super) fn flip(&self, name: &str, bit: usize) {
        self.state(|state| {
            let inode = &mut state.inodes[state.names[name]];
            inode.content[bit / 8] ^= 1 << (bit % 8);
            inode.lasting.clone_from(&inode.content);
        });
    }
}

impl Inode {
    fn lose_power(&mut self, random: &mut fastrand::Rng) {
        let length = if self.content.len() > self.lasting.len() {
            random.usize(self.lasting.len()..=self.content.len())
        } else {
            self.lasting.len()
        };
        let mut after = self.lasting.clone();
        after.resize(length, 0);
        for start in (0..length).step_by(SECTOR_BYTES) {
            let end = length.min(start + SECTOR_BYTES).min(self.content.len());
            if start < end && random.bool() {
                after[start..end].copy_from_slice(&self.content[start..end]);
            }
        }
        (self.content, self.lasting, self.is_broken) = (after.clone(), after, false);
    }
}

impl State {
    /// Whether an operation is done, half done with an error, or not done.
    fn begin(&mut self) -> io::Result<()> {
        match &mut self.power_left {
            Some(0) => return Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                if *left == 0 {
                    return Err(io::Error::other("the power goes"));
                }
            }
            None => {}
        }
        if self.random.u32(..1000) < self.failures_per_mille {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn rename(&mut self, change: impl FnOnce(&mut BTreeMap<String, usize>)) {
        change(&mut self.names);
        self.lasting_names.push(self.names.clone());
    }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.state(|state| state.begin().map(|()| state.names.keys().cloned().collect()))
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        self.state(|state| {
            state.begin()?;
            let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
            Ok(state.inodes[inode].content.clone().into())
        })
    }

    fn create(&self, name: &str) -> io::Result<SimulatedFile> {
        self.state(|state| {
            state.begin()?;
            state.inodes.push(Inode::default());
            let inode = state.inodes.len() - 1;
            state.rename(|names| _ = names.insert(name.to_owned(), inode));
            Ok(SimulatedFile { disk: self.clone(), inode })
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state(|state| {
            state.begin()?;
            let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            state.rename(|names| {
                names.remove(from);
                names.insert(to.to_owned(), inode);
            });
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state(|state| {
            state.begin()?;
            state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
            state.rename(|names| _ = names.remove(name));
            Ok(())
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        self.state(|state| {
            state.begin()?;
            state.lasting_names = vec![state.names.clone()];
            Ok(())
        })
    }
}

impl DiskFile for SimulatedFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.state(|state| {
            let outcome = state.begin();
            // A write that fails may have been done in part.
            let done = if outcome.is_ok() { bytes.len() } else { state.random.usize(..=bytes.len()) };
            let is_off = outcome.is_err() && state.power_left == Some(0);
            let content = &mut state.inodes[self.inode].content;
            let end = offset as usize + done;
            if outcome.is_ok() || is_off || done > 0 {
                content.resize(content.len().max(end), 0);
                content[offset as usize..end].copy_from_slice(&bytes[..done]);
            }
            outcome
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.state(|state| {
            let outcome = state.begin();
            let inode = &mut state.inodes[self.inode];
            if outcome.is_err() {
                let mut random = state.random.fork();
                let content = inode.content.clone();
                inode.lose_power(&mut random);
                (inode.content, inode.is_broken) = (content, true);
            } else if !inode.is_broken {
                inode.lasting.clone_from(&inode.content);
            }
            outcome
        })
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.disk.state(|state| {
            state.begin()?;
            let inode = &mut state.inodes[self.inode];
            inode.content.truncate(bytes as usize);
            inode.lasting.truncate(bytes as usize);
            Ok(())
        })
    }
}
