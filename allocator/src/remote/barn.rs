//! The barn: objects of one class at a time that a thread freed and others allocated, for whichever thread wants them
//! next.
//!
//! ```text
//!   frees of others' objects --> bin, full --> message --> barn --> bin, empty --> requests
//!            (hits)                                 |                   (hits)
//!                                                   +-- too many, or unused --> their owners
//! ```
//!
//! Where one thread allocates and another one frees, the bin of the first is always empty and that of the second
//! always full. So what bins of all threads take ([`crate::remote::group`]) leaves a full one by the message, and
//! fills an empty one by the message, with no look at any page: neither side asks whose the objects are. To their
//! owners they are in use, as in a bin. What finds no place here goes home, and what nobody took for a while kswapd
//! sends there. When a bin leaves what, and when one takes it: `refill/left.rs`.
//!
//! A place has a message with objects, an empty one, or none. Who leaves one with objects gets the empty one of its
//! place, and who takes it puts an empty one there: so messages, which travel one way, come back.
//!
//! # Synchronisation
//!
//! | word        | writers                          | readers       | carries                                  |
//! |-------------|----------------------------------|---------------|------------------------------------------|
//! | a place     | any thread inside its own gate;  | the same,     | the message, and in the lowest bits the  |
//! |             | kswapd, who drains, with a lock  | figures       | number of its objects; the contents of   |
//! |             | for fork (all compare-and-swap)  |               | both as who was there last left them     |
//! | `nr_filled` | the same                         | the same      | nothing: where to look first             |
//! | `used_at`   | the same                         | kswapd,       | nothing: when one last came or went, if  |
//! |             |                                  | figures       | one ever came                            |
//!
//! Each exchange is Release, for the message that is put there, and Acquire, for the one that is taken. Nobody looks
//! into a message before it is taken, so it does not matter if the same one went and came back in between (ABA).
//! Nobody waits, and who loses an exchange looks at the next place.

use core::ptr::{self, NonNull};

use crate::class::{MAX_SMALL, NR_CLASSES, SizeClass};
use crate::fault::{fault, weakened_by};
use crate::lock::FutexLock;
use crate::mm::Mm;
use crate::remote::group::Group;
use crate::remote::{MESSAGE_BYTES, MESSAGE_OBJECTS, Message};
use crate::sync::atomic::Ordering::{AcqRel, Relaxed};
use crate::sync::atomic::{AtomicPtr, AtomicU32};

/// What lies there of one class, in bytes.
const CLASS_BYTES: usize = 128 << 10;
/// What leaves a bin at a time, in bytes: more would have left the caches before it is used again. But so many objects
/// in any case.
const BATCH_BYTES: usize = 8 << 10;
const LEAST_BATCH: usize = 2;
const _: () = assert!(LEAST_BATCH * MAX_SMALL <= MESSAGE_BYTES);
/// So many generations pass at least before what nobody took goes home.
const LEAST_AGE: u32 = 2;
/// Places that are looked at on either side of where the filled ones seem to end.
const LOOKS: usize = 4;
/// Of a place: how many objects the message has.
const NR_MASK: usize = align_of::<Message>() - 1;
const _: () = assert!(MESSAGE_OBJECTS <= NR_MASK);

/// The first place of each class, and after the last one.
const FIRST_PLACES: [u16; NR_CLASSES + 1] = {
    let mut first = [0; NR_CLASSES + 1];
    let mut class = 0;
    while class < NR_CLASSES {
        let size = SizeClass::size_at(class);
        // Smaller ones no bins of others take.
        let nr =
            if size < Group::SHARED_FROM { 0 } else { CLASS_BYTES / (batch_of_size(size) * size) };
        first[class + 1] = first[class] + nr as u16;
        class += 1;
    }
    first
};
const NR_PLACES: usize = FIRST_PLACES[NR_CLASSES] as usize;

/// What threads left for each other, of each class. **All zeros are one without any.**
#[derive(Debug)]
pub(crate) struct Barn {
    /// Held by who sends home, outside of all gates: so no fork finds a message in nobody's hands.
    sending: FutexLock,
    marks: [Mark; NR_CLASSES],
    places: [AtomicPtr<Message>; NR_PLACES],
}

/// Objects of `class` that leave a bin, or come into one, at a time.
pub(crate) fn batch_of(class: SizeClass) -> usize {
    batch_of_size(class.size())
}

const fn batch_of_size(size: usize) -> usize {
    let nr = BATCH_BYTES / size;
    if nr > MESSAGE_OBJECTS {
        MESSAGE_OBJECTS
    } else if nr < LEAST_BATCH {
        LEAST_BATCH
    } else {
        nr
    }
}

impl Barn {
    /// The places of `class`.
    #[inline]
    pub(crate) fn stall(&self, class: SizeClass) -> Stall<'_> {
        let [first, end] = [0, 1].map(|next| usize::from(FIRST_PLACES[class.index() + next]));
        Stall { places: &self.places[first..end], mark: &self.marks[class.index()] }
    }

    /// Whether there seems to be something of `class`.
    #[inline]
    pub(crate) fn has(&self, class: SizeClass) -> bool {
        self.marks[class.index()].nr_filled.load(Relaxed) != 0
    }

    /// Objects of `class`.
    pub(crate) fn nr_of(&self, class: SizeClass) -> usize {
        let stall = self.stall(class);
        // Relaxed: for figures. Places that never had anything are not touched.
        let places = if stall.mark.used_at().is_some() { stall.places } else { &[] };
        places.iter().map(|place| nr_in(place.load(Relaxed))).sum()
    }

    /// Sends home what nobody took or left for so many generations. For kswapd.
    pub(crate) fn age(&self, mm: &Mm, generations: u32) {
        let (now, generations) = (mm.pages().generation(), generations.max(LEAST_AGE));
        for class in SizeClass::all() {
            let mark = &self.marks[class.index()];
            if mark.used_at().is_some_and(|at| now.wrapping_sub(at) >= generations) {
                self.drain_class(mm, class);
            }
        }
    }

    /// Sends everything home. The caller is in no gate.
    pub(crate) fn drain(&self, mm: &Mm) {
        let is_used = |class: &SizeClass| self.marks[class.index()].used_at().is_some();
        SizeClass::all().filter(is_used).for_each(|class| self.drain_class(mm, class));
    }

    /// Apart, so that the loops over all classes have it once.
    #[cold]
    #[inline(never)]
    fn drain_class(&self, mm: &Mm, class: SizeClass) {
        self.sending.acquire();
        self.stall(class).drain(|message, nr| send_home(mm, message, nr));
        self.sending.release();
    }

    /// For fork, which takes it.
    pub(crate) fn raw_lock(&self) -> &FutexLock {
        &self.sending
    }
}

/// What is known of the places of a class.
#[derive(Debug)]
pub(crate) struct Mark {
    /// As many as seem to have objects, from the first one on.
    nr_filled: AtomicU32,
    /// One more than the generation in which a message last came, went or was looked for; 0 where none ever came.
    used_at: AtomicU32,
}

impl Mark {
    /// One of a model.
    #[cfg(all(test, zonal_loom))]
    pub(crate) fn new() -> Mark {
        let [nr_filled, used_at] = [(); 2].map(|()| AtomicU32::new(0));
        Mark { nr_filled, used_at }
    }

    fn nr_filled(&self) -> usize {
        // Relaxed: a hint.
        self.nr_filled.load(Relaxed) as usize
    }

    fn note(&self, nr_filled: usize, generation: u32) {
        // Relaxed: hints. All look at the second, and seldom one writes it.
        self.nr_filled.store(nr_filled as u32, Relaxed);
        let used_at = generation.wrapping_add(1);
        if self.used_at.load(Relaxed) != used_at {
            self.used_at.store(used_at, Relaxed);
        }
    }

    /// The generation in which a message last came, went or was looked for, if one ever came.
    fn used_at(&self) -> Option<u32> {
        // Relaxed: who drains and does not see that one came, or how lately, comes again.
        self.used_at.load(Relaxed).checked_sub(1)
    }
}

/// The places of one class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall<'a> {
    pub(crate) places: &'a [AtomicPtr<Message>],
    pub(crate) mark: &'a Mark,
}

impl Stall<'_> {
    /// Leaves a message with objects of the class, and gets an empty one for it, or null; none where there is no
    /// place.
    pub(crate) fn put(self, message: NonNull<Message>, generation: u32) -> Option<*mut Message> {
        // SAFETY: still the caller's.
        let nr = unsafe { message.as_ref().nr } as usize;
        debug_assert!(nr > 0);
        let filled = message.as_ptr().map_addr(|addr| addr | nr);
        let level = self.mark.nr_filled().min(self.places.len());
        let above = level..self.places.len().min(level + LOOKS);
        let below = level.saturating_sub(LOOKS)..level;
        let end = above.end;
        for at in above.chain(below.rev()) {
            // Relaxed: the exchange decides.
            let found = self.places[at].load(Relaxed);
            if nr_in(found) == 0
                && let Some(empty) = exchange(&self.places[at], found, filled)
            {
                self.mark.note(at + 1, generation);
                return Some(empty);
            }
        }
        // The mark may be wrong: who comes next looks further up.
        self.mark.note(end, generation);
        None
    }

    /// Takes a message with objects of the class, and leaves the empty one that `empty` gives, or null. If it gave one
    /// for nothing, that comes back.
    pub(crate) fn take(
        self,
        generation: u32,
        empty: impl FnOnce() -> *mut Message,
    ) -> Result<NonNull<Message>, *mut Message> {
        let level = self.mark.nr_filled().min(self.places.len());
        if level == 0 {
            return Err(ptr::null_mut());
        }
        let empty = empty();
        let least = level.saturating_sub(LOOKS);
        for at in (least..level).rev() {
            // Relaxed: as above.
            let found = self.places[at].load(Relaxed);
            if nr_in(found) != 0
                && let Some(message) = exchange(&self.places[at], found, empty)
            {
                self.mark.note(at, generation);
                return NonNull::new(message).ok_or(empty);
            }
        }
        // As above, further down.
        self.mark.note(least, generation);
        Err(empty)
    }

    /// Takes all messages out and gives each to `send`, with the number of its objects.
    pub(crate) fn drain(self, mut send: impl FnMut(NonNull<Message>, usize)) {
        // Relaxed: a hint. Before the places are emptied, so that it is not too low for what comes meanwhile.
        self.mark.nr_filled.store(0, Relaxed);
        for place in self.places {
            // Relaxed: the exchange decides.
            let found = place.load(Relaxed);
            if !found.is_null()
                && let Some(message) = exchange(place, found, ptr::null_mut())
                && let Some(message) = NonNull::new(message)
            {
                send(message, nr_in(found));
            }
        }
    }
}

fn nr_in(place: *mut Message) -> usize {
    place.addr() & NR_MASK
}

/// The message that was `found` in a place, if it is still there, for another one.
fn exchange(
    place: &AtomicPtr<Message>,
    found: *mut Message,
    other: *mut Message,
) -> Option<*mut Message> {
    let message = found.map_addr(|addr| addr & !NR_MASK);
    if fault("barn_in_two_steps") {
        let is_found = place.load(Relaxed) == found;
        place.store(other, Relaxed);
        return is_found.then_some(message);
    }
    // ORDERING: Release and Acquire, pairs with itself: see the module doc.
    let order = weakened_by("barn_relaxed", AcqRel);
    place.compare_exchange(found, other, order, Relaxed).is_ok().then_some(message)
}

/// Posts a message with so many objects to who owns the first of them, or lets go what is empty. What belongs to others
/// that one sends on.
fn send_home(mm: &Mm, mut message: NonNull<Message>, nr: usize) {
    // SAFETY: taken out of its place, it is the caller's.
    let m = unsafe { message.as_mut() };
    let map = &mm.pages().map;
    let word_of = |object: &*mut u8| {
        let word = map.word_at(map.pfn_of(object.addr())?);
        let (owner, _) = word.as_slab()?;
        let owner = mm.heap(owner).filter(|owner| owner.takes_in())?;
        Some((word.raw(), owner))
    };
    // Of what was freed twice the slab may be gone: any heap will tell.
    let any = || {
        let owner = mm.registry.all().find(|owner| owner.takes_in())?;
        Some((owner.id().as_word(), owner))
    };
    let found = m.objects[..nr].iter().find_map(word_of);
    let Some((word, owner)) = found.or_else(any).filter(|_| nr > 0) else {
        // SAFETY: messages come from there, and this one is the caller's.
        return unsafe { mm.meta().free(message.cast(), size_of::<Message>()) };
    };
    m.word = word;
    mm.count_posted(owner, m.bytes as isize);
    // SAFETY: heaps are never unmapped, and the message leaves our hands.
    unsafe { owner.inbox.post(message.as_ptr()) };
}
