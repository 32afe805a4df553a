//! The barn: threads leave messages in a place and take them, filled ones and empty ones, and one sends all home.
//!
//! Faults: `barn_relaxed` (who takes a message does not see what was written to it before), `barn_in_two_steps` (one
//! is taken twice, or lost).

use std::ptr::{self, NonNull};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::{check, reached};
use crate::remote::barn::{Mark, Stall};
use crate::remote::{MESSAGE_OBJECTS, Message};
use crate::sync::atomic::AtomicPtr;

/// Who has the message writes to it, whether it has objects or not.
type Content = UnsafeCell<u32>;

fn message() -> NonNull<Message> {
    let mut objects = [ptr::null_mut(); MESSAGE_OBJECTS];
    objects[0] = Box::into_raw(Box::new(Content::new(0))).cast();
    let message = Message { next: ptr::null_mut(), word: 0, nr: 1, bytes: 1, objects };
    NonNull::from(Box::leak(Box::new(message)))
}

fn write(message: *mut Message) {
    // SAFETY: messages here are never freed, and neither is what they point to.
    let content = unsafe { &*(*message).objects[0].cast::<Content>() };
    // SAFETY: that nobody else has it is what loom looks at.
    content.with_mut(|n| unsafe { *n += 1 });
}

struct Barn {
    places: [AtomicPtr<Message>; 1],
    mark: Mark,
}

impl Barn {
    fn stall(&self) -> Stall<'_> {
        Stall { places: &self.places, mark: &self.mark }
    }

    /// Leaves a message; what the thread has then, if anything.
    fn put(&self, message: NonNull<Message>) -> Option<usize> {
        write(message.as_ptr());
        let empty = self.stall().put(message, 0).unwrap_or_else(|| {
            reached("no-place");
            message.as_ptr()
        });
        (!empty.is_null()).then(|| {
            if empty != message.as_ptr() {
                reached("empty-one-back");
            }
            write(empty);
            empty.addr()
        })
    }

    /// Takes one for a spare one; what the thread has then.
    fn take(&self, spare: NonNull<Message>) -> Vec<usize> {
        write(spare.as_ptr());
        let mut is_given = false;
        let taken = self.stall().take(0, || {
            is_given = true;
            spare.as_ptr()
        });
        let taken = match taken {
            Ok(message) => {
                reached("taken");
                message.as_ptr()
            }
            Err(back) if is_given => {
                assert_eq!(back, spare.as_ptr());
                reached("another-was-faster");
                back
            }
            Err(_) => {
                reached("nothing-there");
                spare.as_ptr()
            }
        };
        write(taken);
        vec![taken.addr()]
    }
}

#[test]
fn exchange() {
    let situations = ["taken", "nothing-there", "another-was-faster", "no-place", "empty-one-back"];
    check("barn:exchange", &situations, || {
        let place = AtomicPtr::new(ptr::null_mut());
        let barn = Arc::new(Barn { places: [place], mark: Mark::new() });
        let messages = [(); 4].map(|()| message());
        let mut all = messages.map(|message| message.addr().get());
        let addrs = messages.map(|message| message.as_ptr().expose_provenance());
        let at = |addr| NonNull::new(ptr::with_exposed_provenance_mut::<Message>(addr)).unwrap();
        let leaver = {
            let barn = Arc::clone(&barn);
            thread::spawn(move || {
                let first = barn.put(at(addrs[0]));
                // As below: the second one comes after others have taken.
                thread::yield_now();
                let second = barn.put(at(addrs[1]));
                first.into_iter().chain(second).collect::<Vec<_>>()
            })
        };
        let taker = {
            let barn = Arc::clone(&barn);
            thread::spawn(move || barn.take(at(addrs[2])))
        };
        // Without this loom overlooks the executions in which the others come first.
        thread::yield_now();
        let mut had = barn.take(at(addrs[3]));
        had.extend(leaver.join().unwrap());
        had.extend(taker.join().unwrap());
        let left = barn.places[0].load(crate::sync::atomic::Ordering::Relaxed);
        if !left.is_null() {
            had.push(left.addr() & !(align_of::<Message>() - 1));
        }
        had.sort_unstable();
        all.sort_unstable();
        assert_eq!(had, all, "lost or doubled");
    });
}

/// Who sends everything home comes beside one who leaves messages: each is with one of them, or still there and found
/// by the next who does.
#[test]
fn drained() {
    let situations = ["found-at-once", "found-later", "no-place"];
    check("barn:drained", &situations, || {
        let place = AtomicPtr::new(ptr::null_mut());
        let barn = Arc::new(Barn { places: [place], mark: Mark::new() });
        let messages = [(); 2].map(|()| message());
        let mut all = messages.map(|message| message.addr().get());
        let addrs = messages.map(|message| message.as_ptr().expose_provenance());
        let leaver = {
            let barn = Arc::clone(&barn);
            thread::spawn(move || {
                let at = |addr| NonNull::new(ptr::with_exposed_provenance_mut(addr)).unwrap();
                let first = barn.put(at(addrs[0]));
                // As above.
                thread::yield_now();
                let second = barn.put(at(addrs[1]));
                first.into_iter().chain(second).collect::<Vec<_>>()
            })
        };
        let drain = |had: &mut Vec<usize>, situation| {
            barn.stall().drain(|message, nr| {
                assert_eq!(nr, 1);
                reached(situation);
                write(message.as_ptr());
                had.push(message.addr().get());
            });
        };
        thread::yield_now();
        let mut had = Vec::new();
        drain(&mut had, "found-at-once");
        had.extend(leaver.join().unwrap());
        drain(&mut had, "found-later");
        had.sort_unstable();
        all.sort_unstable();
        assert_eq!(had, all, "lost or doubled");
    });
}
