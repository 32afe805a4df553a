//! What the word of a mark says.

use super::CAN_CLOSE;

/// A value of the word.
///
/// ```text
///   63      62      61 .. 47   46 .. 3            2  1  0
///   CLOSED  ABSENT  sums       place of a call    0  0  SLOW
/// ```
///
/// Places are multiples of eight below 2^47, where a program has its stacks. [`FREE`](Mark::FREE) is so near to the
/// top that any place added to it carries; what that leaves is eight less than the place. All other values lie so far
/// below the top that thousands of places added to one, one for each handler that came just there, carry nowhere, and
/// change neither bit 63 nor bit 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Mark(u64);

/// What a mark means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No call.
    Free,
    /// No call, and hits miss until the owner has been inside the gate.
    Closed,
    /// No thread has hits there.
    Absent,
    /// The call that stands at this place has the heap; or there is no call, and the hit at this place found
    /// [`Closed`](State::Closed), and is about to take the place back.
    Call {
        /// On the stack of the owner.
        place: usize,
    },
    /// Hits that failed have not taken back what they added, to the place of a call or to that of each other: from
    /// the sum of these places nobody can tell where a call stands.
    Sum,
}

impl Mark {
    /// Nobody has the bins. Where they can be closed, any place added to it carries.
    pub const FREE: Mark = Mark(if CAN_CLOSE { 8_u64.wrapping_neg() } else { 0 });
    /// The bins are closed to hits.
    pub const CLOSED: Mark = Mark(1 << 63);
    /// No thread has hits there.
    pub const ABSENT: Mark = Mark(1 << 62);

    /// A slow path runs: the caller's bit, which is left by what handlers add.
    const SLOW: u64 = 1;
    /// Bits that no place has: it is a multiple of eight.
    const LOW: u64 = 7;
    /// No place lies above, unless the program asks the kernel for a stack there. Of stacks far below this a sum looks
    /// like a place above each of them: it is not taken for gone as long as one of them is not.
    const PLACES: u64 = 1 << 47;

    /// The mark of a call that stands at `place` and has the bins.
    #[inline(always)]
    pub(crate) const fn at(place: u64) -> Mark {
        Mark(place)
    }

    #[inline(always)]
    pub(crate) const fn from_bits(bits: u64) -> Mark {
        Mark(bits)
    }

    /// As it stands in the word.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What it means.
    #[inline]
    pub const fn state(self) -> State {
        let place = self.opened().0 & !Mark::LOW;
        match self {
            Mark::FREE => State::Free,
            Mark::CLOSED => State::Closed,
            _ if Mark::ABSENT.0 <= self.0 && self.0 < Mark::CLOSED.0 => State::Absent,
            _ if place < Mark::PLACES => State::Call { place: place as usize },
            _ => State::Sum,
        }
    }

    /// Whether a call of the owner may take the heap: no other has it. With the bins or without.
    #[inline]
    pub const fn is_takeable(self) -> bool {
        matches!(self, Mark::FREE | Mark::CLOSED)
    }

    /// Whether hits miss until the owner has been inside the gate.
    #[inline(always)]
    pub const fn is_closed(self) -> bool {
        // `FREE` begins with two ones.
        self.0 >> 62 == Mark::CLOSED.0 >> 62
    }

    /// The same with the bins open.
    #[inline(always)]
    pub(crate) const fn opened(self) -> Mark {
        if self.is_closed() { Mark(self.0 & !Mark::CLOSED.0) } else { self }
    }

    /// The same with the bins closed, if they are in `other`.
    #[inline(always)]
    pub(crate) const fn closed_as(self, other: Mark) -> Mark {
        if other.is_closed() { Mark(self.0 | Mark::CLOSED.0) } else { self }
    }

    /// What is left as the call ends.
    #[inline(always)]
    pub(crate) const fn ended(self) -> Mark {
        if self.is_closed() { Mark::CLOSED } else { Mark::FREE }
    }

    /// The same without a place that was added.
    #[inline(always)]
    pub(crate) const fn without(self, place: u64) -> Mark {
        Mark(self.0.wrapping_sub(place))
    }

    /// Whether a slow path runs.
    #[inline(always)]
    pub const fn is_slow(self) -> bool {
        self.0 & Mark::SLOW != 0
    }

    /// Whether a hit may be under way, which has marked the heap and is not slow, or was left.
    #[inline]
    pub(crate) const fn is_in_hit(self) -> bool {
        let is_marked = matches!(self.state(), State::Call { .. } | State::Sum);
        is_marked && !self.is_slow() && !self.is_closed()
    }

    /// The same as a slow path begins.
    #[inline(always)]
    #[must_use]
    pub const fn slow(self) -> Mark {
        Mark(self.0 | Mark::SLOW)
    }

    /// The same without a slow path.
    #[inline(always)]
    #[must_use]
    pub const fn not_slow(self) -> Mark {
        Mark(self.0 & !Mark::SLOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: u64 = 0x7fff_ffff_fff8;

    /// A call is told from what others added to it, whether its bins are closed and whether it is slow.
    #[test]
    fn states_are_told_apart() {
        assert_eq!(Mark::FREE.state(), State::Free);
        assert_eq!(Mark::CLOSED.state(), State::Closed);
        assert_eq!(Mark::ABSENT.state(), State::Absent);
        let call = State::Call { place: PLACE as usize };
        for mark in [Mark::at(PLACE), Mark::at(PLACE).closed_as(Mark::CLOSED)] {
            assert_eq!((mark.state(), mark.slow().state()), (call, call));
            assert_eq!(mark.slow().not_slow(), mark);
            for mark in [mark, mark.slow()] {
                let added = Mark(mark.0 + PLACE);
                assert_eq!(added.state(), State::Sum);
                assert_eq!(
                    (added.is_closed(), added.is_slow()),
                    (mark.is_closed(), mark.is_slow())
                );
            }
        }
    }

    /// What thousands of handlers add to a mark that is not free changes neither of the two bits, nor carries.
    #[test]
    fn places_added_carry_only_out_of_a_free_mark() {
        let many = PLACE * 4096;
        for mark in [Mark::CLOSED, Mark::ABSENT, Mark::at(PLACE), Mark::at(PLACE).slow()] {
            let (sum, has_carried) = mark.0.overflowing_add(many);
            let sum = Mark(sum);
            assert!(!has_carried);
            assert_eq!((sum.is_closed(), sum.is_slow()), (mark.is_closed(), mark.is_slow()));
        }
        if CAN_CLOSE {
            assert_eq!(Mark::FREE.0.overflowing_add(8), (0, true));
        }
    }
}
