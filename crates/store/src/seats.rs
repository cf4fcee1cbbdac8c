//! Where those are who read a body that grows, and whom its writer waits for.
//!
//! Whoever follows a fetch has a seat from then on, at the beginning of the body, and takes it along while reading. A writer that has to
//! give up a chunk waits until nobody sits before its end. One who does not move in time is cut: the writer waits for it no
//! more, until it moves again. Counting is done when the writer begins to wait; from then on each move is a comparison.
//!
//! Who moves a little each time, just before it is cut, would hold up all others for as long as it likes. So it is kept how long
//! the writer has waited for each while others could have gone on; who has cost too much in sum is waited for no more. One who
//! is alone holds nobody up.

use std::time::{Duration, Instant};

/// A place in the body.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    is_cut: bool,
    /// How long others have waited for it.
    cost: Duration,
    /// It has cost too much.
    is_given_up: bool,
}

impl Place {
    /// Adds to what it has cost, and gives it up when that is more than is allowed. Says whether it does so now.
    fn charge(&mut self, wait: Wait) -> bool {
        self.cost += wait.since.elapsed();
        let is_too_much = self.cost > wait.cost_max;
        is_too_much && !std::mem::replace(&mut self.is_given_up, true)
    }

    /// Whether nobody waits for it, wherever it is.
    fn is_left_alone(self) -> bool {
        self.is_cut || self.is_given_up
    }
}

/// The writer waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) since: Instant,
    /// What one may cost the others.
    pub(crate) cost_max: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Seats {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    /// The writer waits for those before this place, and they are so many.
    end: u64,
    waited_for: usize,
    wait: Option<Wait>,
    /// Those whom nobody waits for, and how many were given up in this wait.
    left_alone: usize,
    given_up: usize,
}

impl Seats {
    /// A seat at the beginning.
    pub(crate) fn take(&mut self) -> usize {
        let place = Some(Place { at: 0, is_cut: false, cost: Duration::ZERO, is_given_up: false });
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
        let place = self.places[seat].map(|place| Place { at, is_cut: false, ..place });
        self.change(seat, place)
    }

    /// Gives a seat back. Says whether the writer waits for nobody now, and did before.
    pub(crate) fn leave(&mut self, seat: usize) -> bool {
        let is_free = self.change(seat, None);
        self.free.push(seat);
        is_free
    }

    /// Says when the writer begins to wait, and when it waits no more: then how many were given up meanwhile.
    pub(crate) fn set_wait(&mut self, wait: Option<Wait>) -> usize {
        self.wait = wait;
        std::mem::take(&mut self.given_up)
    }

    /// The wait, if somebody waits beside the writer.
    fn wait_of_others(&self) -> Option<Wait> {
        let here = self.places.len() - self.free.len();
        self.wait.filter(|_| here > self.waited_for + self.left_alone)
    }

    fn change(&mut self, seat: usize, mut place: Option<Place>) -> bool {
        if self.holds_up(self.places[seat])
            && !self.holds_up(place)
            && let (Some(place), Some(wait)) = (&mut place, self.wait_of_others())
        {
            self.given_up += usize::from(place.charge(wait));
        }
        let before = std::mem::replace(&mut self.places[seat], place);
        let left_alone = |place: Option<Place>| usize::from(place.is_some_and(Place::is_left_alone));
        self.left_alone = self.left_alone + left_alone(place) - left_alone(before);
        let (before, after) = (self.holds_up(before), self.holds_up(place));
        self.waited_for = self.waited_for + usize::from(after) - usize::from(before);
        before && self.waited_for == 0
    }

    fn holds_up(&self, place: Option<Place>) -> bool {
        place.is_some_and(|place| place.at < self.end && !place.is_cut && !place.is_given_up)
    }

    /// Waits for those before a place from now on; 0 for nobody. Says how many they are.
    pub(crate) fn wait_for(&mut self, end: u64) -> usize {
        self.end = end;
        self.waited_for = self.places.iter().filter(|place| self.holds_up(**place)).count();
        self.waited_for
    }

    /// Waits no more for those who are waited for. Says how many they were.
    pub(crate) fn cut(&mut self) -> usize {
        let (end, wait) = (self.end, self.wait_of_others());
        for place in self.places.iter_mut().flatten().filter(|place| place.at < end && !place.is_cut) {
            self.left_alone += usize::from(!place.is_left_alone());
            place.is_cut = true;
            if let Some(wait) = wait {
                let _it_is_counted_as_cut = place.charge(wait);
            }
        }
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
    fn who_costs_others_too_much_is_waited_for_no_more() {
        let mut seats = Seats::default();
        let (slow, fast) = (seats.take(), seats.take());
        let wait = |secs| {
            let since = Instant::now().checked_sub(Duration::from_secs(secs)).expect("the machine runs since");
            Some(Wait { since, cost_max: Duration::from_secs(30) })
        };
        // Each time it moves before it is cut.
        for (end, is_waited_for) in [(10, true), (20, true), (30, false), (40, false)] {
            seats.move_to(fast, end);
            assert_eq!(seats.wait_for(end), usize::from(is_waited_for), "{end}");
            seats.set_wait(wait(20));
            seats.move_to(slow, end);
            seats.set_wait(None);
        }
        seats.leave(slow);
        assert_eq!((seats.take(), seats.wait_for(50)), (slow, 2), "another one has its seat");
        // One alone may take its time, also beside one that does not move.
        seats.leave(fast);
        seats.move_to(slow, 50);
        let stalled = seats.take();
        assert_eq!((seats.wait_for(50), seats.cut()), (1, 1));
        for end in [60, 70, 80] {
            assert_eq!(seats.wait_for(end), 1);
            seats.set_wait(wait(20));
            seats.move_to(slow, end);
        }
        seats.leave(stalled);
        // What it took until it was cut counts as well.
        let other = seats.take();
        seats.move_to(other, 90);
        for is_waited_for in [true, true, false] {
            assert_eq!(seats.wait_for(90), usize::from(is_waited_for));
            seats.set_wait(wait(20));
            seats.cut();
            seats.move_to(slow, 81);
        }
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
