//! Remote frees: two threads post while the owner takes.
//!
//! Faults: `inbox_post_relaxed` and `inbox_take_relaxed` (the owner reuses an object before it sees
//! the freer's last writes).

use std::ptr;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::{check, reached};
use crate::remote::{Inbox, MESSAGE_OBJECTS, Message};

/// What a user's object is to loom.
type Object = UnsafeCell<u32>;

/// The freer writes to an object a last time and posts it.
pub(super) fn free(inbox: &Inbox, number: u32) {
    let object = Box::into_raw(Box::new(Object::new(0)));
    // SAFETY: made above, not shared yet.
    unsafe { &*object }.with_mut(|n| unsafe { *n = number });
    let mut objects = [ptr::null_mut(); MESSAGE_OBJECTS];
    objects[0] = object.cast();
    let message = Message { next: ptr::null_mut(), word: number, nr: 1, bytes: 1, objects };
    // SAFETY: the message is given away.
    unsafe { inbox.post(Box::into_raw(Box::new(message))) };
}

/// The owner takes what is there, writes to each object, and notes its number.
pub(super) fn take(inbox: &Inbox, seen: &mut Vec<u32>) -> usize {
    let before = seen.len();
    let mut next = inbox.take();
    while !next.is_null() {
        // SAFETY: messages in the inbox were boxes and are the taker's now.
        let message = unsafe { Box::from_raw(next) };
        // SAFETY: likewise its object.
        let object = unsafe { Box::from_raw(message.objects[0].cast::<Object>()) };
        // SAFETY: the object is the taker's.
        let number = object.with_mut(|n| unsafe { ptr::replace(n, 0) });
        assert_eq!((number, message.nr), (message.word, 1));
        seen.push(number);
        next = message.next;
    }
    seen.len() - before
}

#[test]
fn two_posters() {
    check("inbox:posters", &["took-none", "took-one", "took-several", "interleaved"], || {
        let inbox = Arc::new(Inbox::new());
        let posters = [&[1, 2][..], &[3]].map(|numbers| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || numbers.iter().for_each(|&n| free(&inbox, n)))
        });
        let mut seen = Vec::new();
        for _ in 0..2 {
            // Without this loom overlooks the executions in which the posters come first.
            thread::yield_now();
            reached(match take(&inbox, &mut seen) {
                0 => "took-none",
                1 => "took-one",
                _ => "took-several",
            });
        }
        posters.into_iter().for_each(|thread| thread.join().unwrap());
        take(&inbox, &mut seen);
        if seen == [2, 3, 1] {
            reached("interleaved");
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3], "lost or doubled");
    });
}
