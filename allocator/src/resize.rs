//! Resizing: what `realloc` can do without copying, and the short way of copying small objects.

use core::ptr::NonNull;

use zonal_numa::PAGE_SIZE;

use crate::class::{MAX_SMALL, SizeClass};
use crate::heap::Heap;
use crate::hot::HeapHot;
use crate::huge;
use crate::large::MAX_LARGE;
use crate::misuse::checked::WORD;
use crate::mm::Mm;
use crate::pages::Pages;
use crate::pfn::Pfn;
use crate::word::Kind;

impl Mm {
    /// Tries to give the live block at `block` room for `size` bytes, shrinking, extending or moving
    /// pages instead of bytes where it can. None: it has to be copied.
    pub fn resize(&self, block: NonNull<u8>, size: usize) -> Option<NonNull<u8>> {
        // What no block can have is refused before anything is computed from it.
        if size > isize::MAX as usize {
            return None;
        }
        if self.is_checked() {
            return self.resize_checked(block, size);
        }
        self.resize_plain(block, size)
    }

    /// The same of a block without checks, or whose checks the caller took off.
    pub(crate) fn resize_plain(&self, block: NonNull<u8>, size: usize) -> Option<NonNull<u8>> {
        let addr = block.addr().get();
        let usable = self.capacity(block).ok()?;
        let map = &self.pages().map;
        match map.pfn_of(addr) {
            Some(pfn) if map.word_at(pfn).kind() == Kind::Large => {
                (size > MAX_SMALL && self.resize_large(pfn, size)).then_some(block)
            }
            Some(_) => fits(size, usable).then_some(block),
            None if self.is_deferred(addr) || self.fence().contains(addr) => None,
            None if size > MAX_LARGE => {
                // What is checked ends with its guard page.
                let exact = self.is_checked();
                self.huge().resize(self.pages(), addr, size, exact).and_then(huge::pointer)
            }
            None => None,
        }
    }
}

impl Mm {
    /// Whether the live block at `block` cannot be one of `size` bytes aligned to `align`. One that
    /// shrank where it was may be up to twice as large.
    pub fn is_size_wrong(&self, block: NonNull<u8>, size: usize, align: usize) -> bool {
        if self.is_checked() {
            return self.usable_size(block).is_ok_and(|usable| size.max(1) != usable);
        }
        if self.fence().contains(block.addr().get()) {
            return self.capacity(block).is_ok_and(|usable| size.max(WORD) != usable);
        }
        let Ok(usable) = self.capacity(block) else { return false };
        // Blocks for signal handlers are of no class.
        if self.is_deferred(block.addr().get()) {
            return size > usable;
        }
        let map = &self.pages().map;
        let kind = map.pfn_of(block.addr().get()).map(|pfn| map.word_at(pfn).kind());
        if self.has_slack() && kind == Some(Kind::Large) {
            // Where no slack is left, it may be that the size is not known.
            let known = self.usable_size(block).unwrap_or(usable);
            return size > known || (size.max(WORD) < known && known < usable);
        }
        let rounded = size.max(1).checked_next_multiple_of(align).unwrap_or(usize::MAX);
        match SizeClass::of(rounded.min(MAX_SMALL + 1)) {
            Some(class) => class.size() != usable && !fits(rounded, usable),
            // Pages, as many as the size asks for. No more than an object has only where it is the
            // alignment that asks for pages.
            None => size > usable || (usable <= MAX_SMALL && align <= MAX_SMALL),
        }
    }
}

/// Whether an object of `usable` bytes shall stay where it is: what is asked for fits and is no
/// better off in a class of half the size.
#[inline]
pub(crate) fn fits(size: usize, usable: usize) -> bool {
    size <= usable && (size > usable / 2 || size == usable)
}

/// Whether what begins at `end`, behind a block, is in use for sure, so that nothing has to make way there. A
/// hint: it may be freed meanwhile. What begins a pageblock may have no word.
fn is_behind_live(pages: &Pages, end: Pfn) -> bool {
    end.in_pageblock() != 0 && matches!(pages.map.word_at(end).kind(), Kind::Large | Kind::Slab)
}

impl Heap {
    /// [`Mm::resize`], for which what the thread keeps behind a large block makes way.
    ///
    /// # Safety
    /// The calling thread owns this heap.
    pub unsafe fn resize(&self, block: NonNull<u8>, size: usize) -> Option<NonNull<u8>> {
        let pages = self.mm().pages();
        if let Some(pfn) = pages.map.pfn_of(block.addr().get())
            && pages.map.word_at(pfn).kind() == Kind::Large
            && size <= MAX_LARGE
        {
            let end = pfn.add(pages.map.word_at(pfn).large_pages());
            let checked = if self.mm().is_checked() { self.mm().pages_for(size) } else { None };
            let wanted = pfn.add(checked.unwrap_or(size).div_ceil(PAGE_SIZE));
            if wanted > end
                && !is_behind_live(pages, end)
                && let Some(mut inner) = self.try_enter()
            {
                inner.large().clear_way(pages, end, wanted);
                drop(inner);
                pages.node_cache(pages.node_of(pfn)).clear_way(pages, end, wanted);
            }
        }
        self.mm().resize(block, size)
    }

    /// The common case of `realloc`: a small object that may stay, or that moves from bin to bin.
    /// None, and nothing changed, in every other case. The end of the old object may be a slow path.
    ///
    /// # Safety
    /// The calling thread owns this heap; if the answer is another address, `object` is not used
    /// any more.
    #[inline]
    pub unsafe fn try_realloc(&self, object: NonNull<u8>, size: usize) -> Option<NonNull<u8>> {
        // SAFETY: the caller owns the heap.
        let usable = unsafe { HeapHot::size_of(self.hot(), object.as_ptr()) }?;
        if fits(size, usable) {
            return Some(object);
        }
        let class_wanted = SizeClass::of(size.min(MAX_SMALL + 1))?;
        if self.is_closed() {
            return None;
        }
        // SAFETY: the caller owns the heap.
        let new = NonNull::new(unsafe { HeapHot::pop_class(self.hot(), class_wanted) })?;
        // SAFETY: both objects are live and distinct, and have that many bytes.
        unsafe { new.copy_from_nonoverlapping(object, size.min(usable)) };
        // SAFETY: the caller gives the old object up.
        let freed = unsafe {
            HeapHot::push(self.hot(), object.as_ptr())
                || self.free_to_open(object)
                || self.free_now(object).is_ok()
        };
        if freed {
            return Some(new);
        }
        // No live object: the long way says so.
        // SAFETY: just taken from its bin, and nobody has seen it.
        unsafe { HeapHot::push(self.hot(), new.as_ptr()) };
        None
    }
}
