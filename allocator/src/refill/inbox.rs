//! What others have freed: taken from the inbox into the bins and slabs, or sent on.

use core::ptr::NonNull;

use crate::bin::HeapHot;
use crate::heap::{Heap, Inner};
use crate::misuse::{BadKind, BadPointer};

impl Inner {
    /// Takes what others sent back into the bins, what finds no room there into the slabs. Owner
    /// only.
    pub(super) fn receive(&mut self, heap: &Heap) {
        self.empty_inbox(heap, |inner, object| {
            // SAFETY: the caller owns the heap, and whoever sent the object gave it up.
            if unsafe { !HeapHot::push(heap.hot(), object) } {
                inner.put_stray(heap, object);
            }
        });
    }

    /// Takes what others sent back into the slabs.
    pub(crate) fn collect(&mut self, heap: &Heap) {
        self.empty_inbox(heap, |inner, object| inner.put_stray(heap, object));
    }

    fn empty_inbox(&mut self, heap: &Heap, mut put: impl FnMut(&mut Inner, *mut u8)) {
        let mut message = heap.inbox.take();
        while let Some(m) = NonNull::new(message) {
            // SAFETY: a message from the inbox is ours alone.
            let m = unsafe { &mut *m.as_ptr() };
            message = m.next;
            self.events.remote_free += u64::from(m.nr);
            m.objects[..m.nr as usize].iter().for_each(|&object| put(self, object));
            self.recycle(heap, NonNull::from(m));
        }
    }

    /// Puts an object back into its slab, whatever class that is of, or sends it on where the slab
    /// has changed hands.
    fn put_stray(&mut self, heap: &Heap, object: *mut u8) {
        let map = &heap.mm().pages().map;
        let word = map.pfn_of(object.addr()).map(|pfn| map.word_at(pfn));
        match word.and_then(|word| Some((word, word.as_slab()?))) {
            Some((_, (owner, class))) if owner == heap.id() => {
                self.put_object(heap, class, object);
            }
            Some((word, (_, class))) => {
                let object = NonNull::new(object);
                if let Some(object) = object.filter(|&object| !self.send(heap, object, class, word))
                {
                    heap.mm().defer(object);
                }
            }
            None => {
                // Its slab was released although it was in a message: it was freed twice.
                let bad = BadPointer::new(object.addr(), BadKind::DoubleFree);
                self.fault.get_or_insert(bad);
            }
        }
    }
}
