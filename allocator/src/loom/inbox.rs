//! Remote frees: two threads post while the owner takes.
//!
//! Faults: `inbox_post_relaxed` and `inbox_take_relaxed` (the owner reuses an object before it sees
//! the freer's last writes), `inbox_own_relaxed` and `inbox_own_take_relaxed` (a visitor does so with
//! what the owner put aside), `inbox_own_unmarked` (it takes what the owner is about to add to).

use std::ptr::{self, NonNull};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use zonal_numa::NodeId;

use super::{check, reached};
use crate::class::SizeClass;
use crate::heap::HeapId;
use crate::remote::group::{Group, Sharing};
use crate::remote::{Inbox, MESSAGE_OBJECTS, Message};
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;
use crate::word::PageWord;

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

/// A thread of the group has an object in its bin while its slab changes hands: it goes where the word sent it,
/// and from there on to the new owner, once and with all that was written to it.
#[test]
fn changed_hands() {
    let owners = [1, 2].map(|id| HeapId::new(id).unwrap());
    let class = SizeClass::of(64).unwrap();
    let [before, after] = owners.map(|owner| {
        let group = Group::of(Sharing::Threads, owner, NodeId::ZERO, class);
        assert_eq!(
            PageWord::slab(owner, group, class).raw() as u16,
            PageWord::taken_by(Group::SHARED, class)
        );
        PageWord::slab(owner, group, class).raw()
    });
    check("inbox:changed-hands", &["at-home", "by-way-of-the-old-owner"], move || {
        let inboxes = Arc::new([(); 2].map(|()| Inbox::new()));
        let word = Arc::new(AtomicU32::new(before));
        let freer = {
            let (inboxes, word) = (Arc::clone(&inboxes), Arc::clone(&word));
            thread::spawn(move || {
                let word = word.load(Relaxed);
                assert_eq!(word as u16, before as u16, "a hit");
                // The bin spills.
                let owner = HeapId::from_word(word).unwrap();
                free(&inboxes[owner.index() - 1], 7);
            })
        };
        // Inside both gates.
        word.store(after, Relaxed);
        let forward = || {
            let mut strays = Vec::new();
            take(&inboxes[0], &mut strays);
            strays.iter().for_each(|&number| free(&inboxes[1], number));
            strays.len()
        };
        let mut nr_strays = forward();
        freer.join().unwrap();
        nr_strays += forward();
        let mut seen = Vec::new();
        take(&inboxes[1], &mut seen);
        assert_eq!(seen, [7]);
        reached(if nr_strays == 0 { "at-home" } else { "by-way-of-the-old-owner" });
    });
}

/// The owner puts an object aside, as [`free`] sends one.
fn put_aside(inbox: &Inbox, number: u32, class: SizeClass) {
    let object = Box::into_raw(Box::new(Object::new(0)));
    // SAFETY: made above, not shared yet.
    unsafe { &*object }.with_mut(|n| unsafe { *n = number });
    let open = || {
        reached("opened");
        let objects = [ptr::null_mut(); MESSAGE_OBJECTS];
        let message = Message { next: ptr::null_mut(), word: 0, nr: 0, bytes: 0, objects };
        NonNull::new(Box::into_raw(Box::new(message)))
    };
    assert!(inbox.put_aside(NonNull::new(object.cast()).unwrap(), class, open));
}

/// Takes what is there, all objects of each message.
fn take_all(inbox: &Inbox, seen: &mut Vec<u32>) {
    let mut next = inbox.take();
    while !next.is_null() {
        // Not freed, so that one taken twice shows as that.
        // SAFETY: as in `take`.
        let message: &Message = unsafe { &*next };
        for &object in &message.objects[..message.nr as usize] {
            // SAFETY: likewise.
            let object = unsafe { &*object.cast::<Object>() };
            // SAFETY: the object is the taker's.
            seen.push(object.with_mut(|n| unsafe { ptr::replace(n, 0) }));
        }
        next = message.next;
    }
}

/// An owner that is kept out frees, while a visitor takes and another thread posts.
#[test]
fn own_messages() {
    check("inbox:own", &["opened", "took-none", "took-some", "took-all"], || {
        let inbox = Arc::new(Inbox::new());
        let poster = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || free(&inbox, 4))
        };
        let owner = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                // Two of this size are a full message.
                let class = SizeClass::of(32 << 10).unwrap();
                (1..=3).for_each(|number| put_aside(&inbox, number, class));
            })
        };
        let mut seen = Vec::new();
        // As above.
        thread::yield_now();
        take_all(&inbox, &mut seen);
        reached(match seen.len() {
            0 => "took-none",
            4 => "took-all",
            _ => "took-some",
        });
        owner.join().unwrap();
        poster.join().unwrap();
        take_all(&inbox, &mut seen);
        assert!(inbox.is_empty());
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4], "lost or doubled");
    });
}
