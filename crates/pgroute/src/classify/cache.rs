//! What texts were found to be, by text, so that the same one is not looked at again.
//!
//! Applications send few texts very often, as long as values go by parameters. Where they are numbers in the text, texts that differ by
//! them alone are one: what a statement that reads or changes rows is does not depend on its numbers. Other texts with values come once each, and
//! a cache would only cost. So a text is kept when it comes a second time within a while: a small table of hashes of what came lately
//! decides. The cache is bounded by bytes and belongs to one core; when it is full, what was not asked for since the last round
//! is dropped (second chance).

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

// Every statement's text is hashed, and half of what the standard library's hash costs is more than all else that is looked at.
use foldhash::fast::RandomState;

use super::{Catalogue, Kind, Plan, Statement, classify};

/// Texts longer than this are looked at each time: they are bulk statements, and hardly come again.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Slots for hashes of what came once. A collision keeps or forgets a text too early, which does no harm.
const SEEN: usize = 4096;

/// Where texts without their numbers are.
const SHAPES: usize = 2;

/// What an entry costs beside its text and its statements, about.
const ENTRY_BYTES: usize = 160;

/// What an entry costs, about. Names and values in a plan are parts of its text.
fn cost(text: &[u8], plan: &Plan) -> usize {
    let again = plan.prepares.as_ref().map_or(0, |text| text.len());
    ENTRY_BYTES + 2 * text.len() + again + plan.statements.capacity() * std::mem::size_of::<Statement>()
}

#[derive(Debug)]
struct Entry {
    plan: Arc<Plan>,
    is_used: bool,
}

/// Plans by text.
#[derive(Debug)]
pub struct Cache {
    /// Texts as they are, by what the session's strings are; and last those without their numbers, which have no strings.
    plans: [HashMap<Box<[u8]>, Entry, RandomState>; 3],
    seen: Box<[u64]>,
    /// The text that is asked for, without its numbers.
    shape: Vec<u8>,
    hasher: RandomState,
    bytes: usize,
    bytes_max: usize,
    /// Which catalogue the plans were made by.
    generation: u64,
}

impl Cache {
    /// A cache of at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        let seen = vec![0; SEEN].into_boxed_slice();
        let hasher = RandomState::default();
        Self { plans: Default::default(), seen, shape: Vec::new(), hasher, bytes: 0, bytes_max, generation: 0 }
    }

    /// How many plans are kept.
    pub fn len(&self) -> usize {
        self.plans.iter().map(HashMap::len).sum()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.plans.iter().all(HashMap::is_empty)
    }

    /// What a text is. `generation` is the catalogue's number, which changes with it; with another one
    /// everything is looked at anew.
    pub fn plan(&mut self, text: &[u8], standard_strings: bool, catalogue: &Catalogue, generation: u64) -> Arc<Plan> {
        if self.generation != generation {
            self.generation = generation;
            self.clear();
        }
        if text.len() > TEXT_BYTES_MAX {
            return Arc::new(classify(text, standard_strings, catalogue));
        }
        let mut shape = std::mem::take(&mut self.shape);
        let has_shape = write_shape(text, &mut shape);
        let texts = usize::from(standard_strings);
        let known = if has_shape { self.find(SHAPES, &shape) } else { None };
        let plan = known.or_else(|| self.find(texts, text)).unwrap_or_else(|| {
            let plan = Arc::new(classify(text, standard_strings, catalogue));
            // What others are has values out of the text in it.
            let is_same = plan.statements.iter().all(|one| matches!(one.kind, Kind::Query | Kind::Change));
            let (among, key) = if has_shape && is_same { (SHAPES, &shape[..]) } else { (texts, text) };
            if self.came_before(key) {
                self.keep(among, key, &plan);
            }
            plan
        });
        self.shape = shape;
        plan
    }

    fn find(&mut self, among: usize, key: &[u8]) -> Option<Arc<Plan>> {
        let entry = self.plans[among].get_mut(key)?;
        entry.is_used = true;
        Some(Arc::clone(&entry.plan))
    }

    fn came_before(&mut self, text: &[u8]) -> bool {
        let hash = self.hasher.hash_one(text);
        let slot = &mut self.seen[hash as usize % SEEN];
        std::mem::replace(slot, hash) == hash
    }

    fn clear(&mut self) {
        self.plans.iter_mut().for_each(HashMap::clear);
        self.bytes = 0;
    }

    fn keep(&mut self, among: usize, text: &[u8], plan: &Arc<Plan>) {
        let bytes = cost(text, plan);
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            let before = self.bytes;
            let left = &mut self.bytes;
            for plans in &mut self.plans {
                plans.retain(|text, entry| {
                    let stays = std::mem::take(&mut entry.is_used);
                    if !stays {
                        *left -= cost(text, &entry.plan);
                    }
                    stays
                });
            }
            // Everything was in use: the next round would take it all, and so does this one.
            if self.bytes == before {
                self.clear();
            }
        }
        let entry = Entry { plan: Arc::clone(plan), is_used: false };
        self.plans[among].insert(text.into(), entry);
        self.bytes += bytes;
    }
}

/// Writes a text with a nought for each of its numbers. `false` if it has strings, quoted names, comments or parameters: these are left as they are, by
/// leaving out the text as a whole.
fn write_shape(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let (mut at, mut written) = (0, 0);
    let class = |byte: &u8| CLASSES[usize::from(*byte)];
    loop {
        at += plain_chunks(&text[at..]);
        let Some(plain) = text[at..].iter().position(|byte| !matches!(class(byte), Class::Plain)) else { break };
        at += plain;
        let byte = text[at];
        let before = if at == 0 { b' ' } else { text[at - 1] };
        match class(&byte) {
            Class::Number if !is_name(before) => {
                out.extend_from_slice(&text[written..at]);
                out.push(b'0');
                at += text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                written = at;
                continue;
            }
            Class::Stop => return false,
            Class::Twice if before == if byte == b'*' { b'/' } else { byte } => return false,
            Class::Twice | Class::Number | Class::Plain => {}
        }
        at += 1;
    }
    out.extend_from_slice(&text[written..]);
    true
}

/// How many bytes at the beginning are in chunks of nothing but [`Class::Plain`]. Written so that compilers look at all bytes of a chunk at once.
fn plain_chunks(text: &[u8]) -> usize {
    let is = |byte: u8, other: u8| u8::from(byte == other);
    let is_other = |byte: u8| {
        let is_digit = u8::from(byte.wrapping_sub(b'0') < 10);
        is_digit | is(byte, b'\'') | is(byte, b'"') | is(byte, b'$') | is(byte, b'-') | is(byte, b'*')
    };
    let mut at = 0;
    while let Some(chunk) = text[at..].first_chunk::<16>() {
        if chunk.iter().fold(0, |found, byte| found | is_other(*byte)) != 0 {
            break;
        }
        at += chunk.len();
    }
    at
}

/// What a byte of a text may begin.
#[derive(Clone, Copy)]
enum Class {
    /// Nothing.
    Plain,
    /// A number, if no name stands before it.
    Number,
    /// A string, a quoted name or a parameter.
    Stop,
    /// A comment, behind another one.
    Twice,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Plain; 256];
    let mut digit = b'0';
    while digit <= b'9' {
        classes[digit as usize] = Class::Number;
        digit += 1;
    }
    classes[b'\'' as usize] = Class::Stop;
    classes[b'"' as usize] = Class::Stop;
    classes[b'$' as usize] = Class::Stop;
    classes[b'-' as usize] = Class::Twice;
    classes[b'*' as usize] = Class::Twice;
    classes
};

/// Whether a digit behind it belongs to a name.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, a byte after the other.
    fn naive(text: &[u8]) -> Option<Vec<u8>> {
        let (mut before, mut is_number, mut out) = (b' ', false, Vec::new());
        for &byte in text {
            match byte {
                b'\'' | b'"' | b'$' => return None,
                b'-' if before == b'-' => return None,
                b'*' if before == b'/' => return None,
                b'0'..=b'9' if is_number => continue,
                b'0'..=b'9' if !is_name(before) => is_number = true,
                _ => is_number = false,
            }
            before = if is_number { b'0' } else { byte };
            out.push(before);
        }
        Some(out)
    }

    proptest! {
        #[test]
        fn a_shape_is_the_text_with_a_nought_for_each_number(
            text in proptest::collection::vec(proptest::sample::select(b"a_z 019.-*/+(,e\xc3'\"$bcdfghijklmnopqrstuvwxy=;ABCDEFGHIJK".to_vec()), 0..80)
        ) {
            let mut out = b"what was there before".to_vec();
            let has_shape = write_shape(&text, &mut out);
            prop_assert_eq!(has_shape.then_some(out), naive(&text));
        }
    }
}
