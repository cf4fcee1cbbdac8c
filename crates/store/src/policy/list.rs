//! Lists whose nodes live in one table, so that a node is moved and removed in a few writes and without pointers.

/// No node.
const NONE: u32 = u32::MAX;

/// Which list a node is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Window,
    Probation,
    Protected,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    hash: u64,
    weight: u32,
    previous: u32,
    next: u32,
    segment: Option<Segment>,
}

#[derive(Clone, Copy, Debug)]
struct List {
    /// The latest.
    first: u32,
    /// The oldest.
    last: u32,
    weight: u64,
}

const EMPTY: List = List { first: NONE, last: NONE, weight: 0 };

/// Nodes in three lists, each from the latest to the oldest.
#[derive(Debug)]
pub(crate) struct Lists {
    nodes: Vec<Node>,
    /// Begins the chain of nodes that are free.
    free: u32,
    lists: [List; 3],
    count: usize,
}

impl Lists {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), free: NONE, lists: [EMPTY; 3], count: 0 }
    }

    /// Nodes in lists.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Weight of a list.
    pub(crate) fn weight(&self, segment: Segment) -> u64 {
        self.lists[segment as usize].weight
    }

    /// Weight of all lists.
    pub(crate) fn weight_of_all(&self) -> u64 {
        self.lists.iter().map(|list| list.weight).sum()
    }

    /// The oldest node of a list.
    pub(crate) fn oldest(&self, segment: Segment) -> Option<u32> {
        let last = self.lists[segment as usize].last;
        (last != NONE).then_some(last)
    }

    pub(crate) fn hash(&self, slot: u32) -> u64 {
        self.nodes[slot as usize].hash
    }

    pub(crate) fn node_weight(&self, slot: u32) -> u32 {
        self.nodes[slot as usize].weight
    }

    pub(crate) fn segment(&self, slot: u32) -> Option<Segment> {
        self.nodes.get(slot as usize).and_then(|node| node.segment)
    }

    /// Adds a node as the latest of a list, and says where it is.
    pub(crate) fn insert(&mut self, segment: Segment, hash: u64, weight: u32) -> u32 {
        let node = Node { hash, weight, previous: NONE, next: NONE, segment: None };
        let slot = if self.free == NONE {
            self.nodes.push(node);
            // A table of as many nodes as `u32` has numbers would take 128 GiB; bounds in bytes come long before.
            (self.nodes.len() - 1) as u32
        } else {
            let slot = self.free;
            self.free = self.nodes[slot as usize].next;
            self.nodes[slot as usize] = node;
            slot
        };
        self.count += 1;
        self.link(segment, slot);
        slot
    }

    /// Takes a node out, which is free from then on.
    pub(crate) fn remove(&mut self, slot: u32) {
        self.unlink(slot);
        self.nodes[slot as usize].next = self.free;
        self.free = slot;
        self.count -= 1;
    }

    /// Makes a node the latest of a list.
    pub(crate) fn refresh(&mut self, segment: Segment, slot: u32) {
        let list = &self.lists[segment as usize];
        if list.first != slot {
            self.unlink(slot);
            self.link(segment, slot);
        }
    }

    fn link(&mut self, segment: Segment, slot: u32) {
        let list = &mut self.lists[segment as usize];
        let node = &mut self.nodes[slot as usize];
        node.segment = Some(segment);
        node.previous = NONE;
        node.next = list.first;
        list.weight += u64::from(node.weight);
        if list.first == NONE {
            list.last = slot;
        } else {
            self.nodes[list.first as usize].previous = slot;
        }
        list.first = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let node = self.nodes[slot as usize];
        let Some(segment) = self.nodes[slot as usize].segment.take() else { return };
        let list = &mut self.lists[segment as usize];
        list.weight -= u64::from(node.weight);
        match node.previous {
            NONE => list.first = node.next,
            previous => self.nodes[previous as usize].next = node.next,
        }
        match node.next {
            NONE => list.last = node.previous,
            next => self.nodes[next as usize].previous = node.previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes of a list from the oldest on, read from behind.
    fn hashes(lists: &Lists, segment: Segment) -> Vec<u64> {
        let mut found = Vec::new();
        let mut at = lists.lists[segment as usize].last;
        while at != NONE {
            found.push(lists.hash(at));
            at = lists.nodes[at as usize].previous;
        }
        found
    }

    #[test]
    fn nodes_move_and_their_places_are_used_again() {
        let mut lists = Lists::new();
        let one = lists.insert(Segment::Window, 1, 10);
        let two = lists.insert(Segment::Window, 2, 20);
        let three = lists.insert(Segment::Window, 3, 30);
        assert_eq!(hashes(&lists, Segment::Window), [1, 2, 3]);
        lists.refresh(Segment::Window, one);
        assert_eq!(hashes(&lists, Segment::Window), [2, 3, 1]);
        lists.refresh(Segment::Protected, three);
        assert_eq!((lists.weight(Segment::Window), lists.weight(Segment::Protected)), (30, 30));
        assert_eq!(lists.segment(three), Some(Segment::Protected));
        lists.remove(two);
        assert_eq!(lists.segment(two), None);
        assert_eq!(hashes(&lists, Segment::Window), [1]);
        assert_eq!(lists.insert(Segment::Probation, 4, 5), two);
        assert_eq!((lists.count(), lists.weight_of_all()), (3, 45));
        lists.remove(one);
        assert_eq!(lists.oldest(Segment::Window), None);
        assert!(hashes(&lists, Segment::Window).is_empty());
    }
}
