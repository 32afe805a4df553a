//! Requests: what a caller wants, where it is looked for, and what is handed out.

use core::ptr::NonNull;

use zonal_numa::{NodeId, PAGE_SIZE};

use crate::class::SizeClass;
use crate::error::AllocError;
use crate::heap::Heap;
use crate::hot::HeapHot;
use crate::huge;
use crate::large::MAX_LARGE;
use crate::misuse::fence::{self, Fence};
use crate::order::PAGEBLOCK_BYTES;
use crate::pages::bind::HugePolicy;
use crate::refill::Refilled;
use crate::watermark::WatermarkLevel;

/// The largest alignment offered, in bytes.
pub const MAX_ALIGN: usize = 1 << 30;

/// All objects of more than 8 bytes have this alignment.
const MIN_ALIGN: usize = 16;

/// What a caller wants.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Bytes; 0 counts as 1.
    pub size: usize,
    /// A power of two, at most [`MAX_ALIGN`].
    pub align: usize,
    /// The caller wants zeros, and so may leave much of it untouched: a hint.
    pub zeroed: bool,
    /// The block takes the place of a shorter one, and may grow again: a hint.
    pub grows: bool,
}

/// Where and how hard one attempt looks for pages.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The node whose zones are asked.
    pub node: NodeId,
    /// How deep it may dip into the reserve.
    pub level: WatermarkLevel,
}

/// Memory handed out.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// The first byte.
    pub start: NonNull<u8>,
    /// Every byte is zero already.
    pub known_zero: bool,
}

impl Heap {
    /// Memory for `request`, from the bins, slabs and zones of one node.
    ///
    /// # Errors
    /// `Exhausted` changes nothing: after reclaim the same call can be made again.
    ///
    /// # Safety
    /// The calling thread owns this heap.
    pub unsafe fn alloc(&self, request: Request, from: Attempt) -> Result<Block, AllocError> {
        let (size, align) = (request.size.max(1), request.align);
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(AllocError::BadAlign);
        }
        if size > isize::MAX as usize - align {
            return Err(AllocError::TooLarge);
        }
        self.mm().run_deferred(self);
        if self.mm().is_checked() {
            return self.alloc_checked(request, from);
        }
        self.alloc_plain(request, from)
    }

    /// [`Heap::alloc`] of a valid request, without any checks.
    pub(crate) fn alloc_plain(&self, request: Request, from: Attempt) -> Result<Block, AllocError> {
        let (size, align) = (request.size.max(1), request.align);
        // Only objects of 8 bytes and less may be aligned to less than 16.
        let rounded = if align <= 8 { size } else { size.next_multiple_of(align) };
        if let Some(class) = SizeClass::of(rounded) {
            return match self.alloc_class(class, (size, align), from)? {
                Some(block) => Ok(block),
                None => self.alloc_beside(class, (size, align), from),
            };
        }
        self.read_policy();
        let request = Request { size, ..request };
        let block = if size <= MAX_LARGE && align <= MAX_LARGE {
            self.mm().alloc_large(self, request, from)?
        } else {
            self.alloc_huge(request, from)?
        };
        self.mm().note_taken(self, from.node, size.div_ceil(PAGE_SIZE));
        Ok(block)
    }

    #[inline(never)]
    fn alloc_huge(&self, request: Request, from: Attempt) -> Result<Block, AllocError> {
        let mm = self.mm();
        let Request { size, align, .. } = request;
        let policy = self.policy();
        let policy = HugePolicy { policy, weights: mm.weights_of(policy) };
        if let Some(block) = mm.alloc_warm_row(request, from) {
            return Ok(block);
        }
        match mm.huge().alloc(mm.pages(), (from.node, policy), request, from.level) {
            Ok(block) => {
                let start = huge::pointer(block.span.addr()).ok_or(AllocError::TooLarge)?;
                Ok(Block { start, known_zero: block.known_zero })
            }
            // Rows of pageblocks are aligned to one.
            Err(_) if align <= PAGEBLOCK_BYTES => mm.alloc_row(size, from),
            Err(error) => Err(error),
        }
    }

    /// An object of `class`; none while a visitor is in the heap. Owner only.
    #[inline]
    pub(crate) fn alloc_class(
        &self,
        class: SizeClass,
        (size, align): (usize, usize),
        from: Attempt,
    ) -> Result<Option<Block>, AllocError> {
        if !self.claim_bins() {
            return Ok(None);
        }
        loop {
            // SAFETY: `alloc`'s caller owns the heap.
            let object = unsafe { HeapHot::pop_class(self.hot(), class) };
            if let Some(start) = NonNull::new(object) {
                return Ok(Some(Block { start, known_zero: false }));
            }
            // Before the refill: with an empty bin, the next request comes here, too.
            let is_wanted = self.mm().fence().wants(class);
            if is_wanted && let Some(block) = self.alloc_fenced(class, (size, align), from) {
                return Ok(Some(block));
            }
            if let Some(start) = self.reuse_again(class, from) {
                return Ok(Some(Block { start, known_zero: false }));
            }
            match self.refill(class, size, from)? {
                None => return Ok(None),
                Some(Refilled::Object(start)) => {
                    return Ok(Some(Block { start, known_zero: false }));
                }
                Some(Refilled::Bin) => (),
            }
            // Only where there is memory: when there is none, what is freed must serve again.
            if self.draws_fenced(class)
                && let Some(block) = self.alloc_fenced(class, (size, align), from)
            {
                return Ok(Some(block));
            }
        }
    }

    /// Whether it is the turn of this miss.
    #[inline]
    fn draws_fenced(&self, class: SizeClass) -> bool {
        let mm = self.mm();
        let period = mm.fence().period();
        if period <= 1 || !Fence::chooses(class) || !self.misses().spend(1) {
            return false;
        }
        // All threads together as often as one: they meet there.
        let period = period.saturating_mul(mm.pages().nr_threads().max(1) as u64);
        self.misses().draw(1, period, || mm.machine().random())
    }

    /// A fenced object, where it can be one.
    #[cold]
    fn alloc_fenced(
        &self,
        class: SizeClass,
        (size, align): (usize, usize),
        from: Attempt,
    ) -> Option<Block> {
        let mm = self.mm();
        if align > MIN_ALIGN || from.node != self.node() {
            return None;
        }
        if size > fence::MAX_SIZE {
            // Pages have slack, which is looked at, too.
            let block = mm.fence().take_turn(class).then(|| mm.alloc_roomy(self, size, from));
            return block.and_then(Result::ok);
        }
        if !self.is_placed_by_touch() {
            return None;
        }
        let place = (mm.machine(), self.node());
        let start = mm.fence().alloc(place, class, size).unwrap_or_else(|bad| {
            self.note_fault(bad);
            None
        })?;
        Some(Block { start, known_zero: true })
    }
}
