//! Where those are who read a body that grows, and whom its writer waits for.
//!
//! Whoever follows a fetch has a seat from then on, at the beginning of the body, and takes it along while reading. A writer that has to
//! give up a chunk waits until nobody sits before its end. One who does not move in time is cut: the writer waits for it no
//! more, until it moves again. Counting is done when the writer begins to wait; from then on each move is a comparison.

/// A place in the body.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    is_cut: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Seats {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    /// The writer waits for those before this place, and they are so many.
    end: u64,
    waited_for: usize,
}

impl Seats {
    /// A seat at the beginning.
    pub(crate) fn take(&mut self) -> usize {
        let place = Some(Place { at: 0, is_cut: false });
        let seat = match self.free.pop() {
            Some(seat) => {
                self.places[seat] = place;
                seat
            }
            None => {
                self.places.push(place);
                self.places.len() - 1
            }
        };
        self.waited_for += usize::from(self.holds_up(place));
        seat
    }

    /// Whether nobody has one.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Moves a seat. Says whether the writer waits for nobody now, and did before.
    pub(crate) fn move_to(&mut self, seat: usize, at: u64) -> bool {
        self.change(seat, Some(Place { at, is_cut: false }))
    }

    /// Gives a seat back. Says whether the writer waits for nobody now, and did before.
    pub(crate) fn leave(&mut self, seat: usize) -> bool {
        let is_free = self.change(seat, None);
        self.free.push(seat);
        is_free
    }

    fn change(&mut self, seat: usize, place: Option<Place>) -> bool {
        let before = std::mem::replace(&mut self.places[seat], place);
        let (before, after) = (self.holds_up(before), self.holds_up(place));
        self.waited_for = self.waited_for + usize::from(after) - usize::from(before);
        before && self.waited_for == 0
    }

    fn holds_up(&self, place: Option<Place>) -> bool {
        place.is_some_and(|place| place.at < self.end && !place.is_cut)
    }

    /// Waits for those before a place from now on; 0 for nobody. Says how many they are.
    pub(crate) fn wait_for(&mut self, end: u64) -> usize {
        self.end = end;
        self.waited_for = self.places.iter().filter(|place| self.holds_up(**place)).count();
        self.waited_for
    }

    /// Waits no more for those who are waited for. Says how many they were.
    pub(crate) fn cut(&mut self) -> usize {
        let end = self.end;
        self.places.iter_mut().flatten().filter(|place| place.at < end).for_each(|place| place.is_cut = true);
        std::mem::take(&mut self.waited_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_empty_once_all_have_left() {
        let mut seats = Seats::default();
        assert!(seats.is_empty());
        let (one, other) = (seats.take(), seats.take());
        seats.leave(one);
        assert!(!seats.is_empty());
        seats.leave(other);
        assert!(seats.is_empty());
        seats.take();
        assert!(!seats.is_empty(), "a seat that was left is taken again");
    }

    #[test]
    fn the_writer_waits_for_those_before_a_place_and_for_nobody_else() {
        let mut seats = Seats::default();
        let (slow, fast) = (seats.take(), seats.take());
        assert_eq!(seats.wait_for(10), 2);
        assert!(!seats.move_to(fast, 30));
        assert!(!seats.move_to(slow, 9), "still before it");
        assert!(seats.move_to(slow, 10));
        assert!(!seats.move_to(slow, 11), "nobody was waited for");
        assert_eq!(seats.wait_for(20), 1);
        let late = seats.take();
        assert!(!seats.leave(slow), "who comes meanwhile is waited for as well");
        assert!(seats.leave(late));
        let back = seats.take();
        assert_eq!((seats.cut(), seats.wait_for(20)), (1, 0));
        assert!(!seats.move_to(back, 1), "it was cut before it moved");
        assert_eq!(seats.wait_for(20), 1, "who moves again counts again");
        assert!(!seats.move_to(fast, 5), "one who goes back is waited for");
        assert!(!seats.leave(back));
        assert!(seats.leave(fast));
        assert_eq!(seats.places.len(), 3, "seats are used again");
    }
}
