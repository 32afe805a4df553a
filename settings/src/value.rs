//! Values of settings: words, sizes, signals, nodes, policies.

use core::ops::RangeInclusive;
use core::str;

use zonal_allocator::Weights;
use zonal_numa::{MAX_NODES, MemPolicy, NodeId, NodeMask, PolicyMode};

use crate::SIGNALS;

/// What the word means.
pub(super) fn one_of<T: Copy>(value: &[u8], words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| word.as_bytes() == value).map(|&(_, meaning)| meaning)
}

/// `512M` and the like; not zero.
pub(super) fn bytes(value: &[u8]) -> Option<usize> {
    let (digits, shift) = match value.split_last()? {
        (b'K' | b'k', digits) => (digits, 10),
        (b'M' | b'm', digits) => (digits, 20),
        (b'G' | b'g', digits) => (digits, 30),
        (b'T' | b't', digits) => (digits, 40),
        _ => (value, 0),
    };
    number(digits)?.checked_mul(1 << shift).filter(|&bytes| bytes > 0)
}

/// `0=1G+1=512M`, each node once.
pub(super) fn node_limits(list: &[u8]) -> Option<[Option<usize>; MAX_NODES]> {
    let mut limits = [None; MAX_NODES];
    for item in list.split(|&byte| byte == b'+') {
        let mut sides = item.splitn(2, |&byte| byte == b'=');
        let node = NodeId::from_index(number(sides.next()?)?)?;
        if limits[node.index()].replace(bytes(sides.next()?)?).is_some() {
            return None;
        }
    }
    Some(limits)
}

/// The kernel's bounds of `watermark_scale_factor` and `watermark_boost_factor`.
pub(super) const SCALE_FACTORS: RangeInclusive<u32> = 1..=3000;
pub(super) const BOOST_FACTORS: RangeInclusive<u32> = 0..=i32::MAX as u32;

/// A number of ten-thousandths.
pub(super) fn factor(value: &[u8], bounds: RangeInclusive<u32>) -> Option<u32> {
    u32::try_from(number(value)?).ok().filter(|factor| bounds.contains(factor))
}

/// `SIGUSR2`, `USR2`, `RTMAX-3`, `RTMIN+3` or a number. Only those that programs leave to their users:
/// a handler for any other would change what the program does.
pub(super) fn signal(value: &[u8]) -> Option<i32> {
    let name = value.strip_prefix(b"SIG").unwrap_or(value);
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let named = SIGNALS.iter().find(|&&(text, _)| text == name).map(|&(_, number)| number);
    let signal = match (named, name) {
        (Some(signal), _) => signal,
        (None, b"RTMIN") => first,
        (None, b"RTMAX") => last,
        (None, _) => match (name.strip_prefix(b"RTMIN+"), name.strip_prefix(b"RTMAX-")) {
            (Some(above), _) => first.checked_add(i32::try_from(number(above)?).ok()?)?,
            (_, Some(below)) => last.checked_sub(i32::try_from(number(below)?).ok()?)?,
            _ => i32::try_from(number(name)?).ok()?,
        },
    };
    let is_left = SIGNALS.iter().any(|&(_, number)| number == signal);
    (is_left || (first..=last).contains(&signal)).then_some(signal)
}

pub(super) fn number(digits: &[u8]) -> Option<usize> {
    // `parse` would take a sign.
    digits.first().filter(|first| first.is_ascii_digit())?;
    str::from_utf8(digits).ok()?.parse().ok()
}

/// `default`, `local`, or a mode with its nodes: `bind=0-1+3`, `weighted-interleave=0*3+1`.
pub(super) fn policy(value: &[u8]) -> Option<(Option<MemPolicy>, Weights)> {
    let mut parts = value.splitn(2, |&byte| byte == b'=');
    let mode = match parts.next()? {
        b"default" => return parts.next().is_none().then_some((None, Weights::default())),
        b"local" => PolicyMode::Local,
        b"preferred" => PolicyMode::Preferred,
        b"preferred-many" => PolicyMode::PreferredMany,
        b"bind" => PolicyMode::Bind,
        b"bind-strict" => PolicyMode::BindStrict,
        b"interleave" => PolicyMode::Interleave,
        b"weighted-interleave" => PolicyMode::WeightedInterleave,
        _ => return None,
    };
    let (nodes, weights) = match parts.next() {
        Some(list) => nodes(list)?,
        None => (NodeMask::EMPTY, Weights::default()),
    };
    let has_weights = weights != Weights::default();
    let policy = MemPolicy { mode, nodes };
    let is_sound = policy.is_sound() && (!has_weights || mode == PolicyMode::WeightedInterleave);
    is_sound.then_some((Some(policy), weights))
}

/// `0-1+3`: nodes and ranges of them, joined by `+` because the comma is taken, each with its
/// weight if it has one, as in `0*3`.
fn nodes(list: &[u8]) -> Option<(NodeMask, Weights)> {
    let (mut mask, mut weights) = (NodeMask::EMPTY, Weights::default());
    for item in list.split(|&byte| byte == b'+') {
        let mut sides = item.splitn(2, |&byte| byte == b'*');
        let mut ends = sides.next()?.splitn(2, |&byte| byte == b'-');
        let first = number(ends.next()?)?;
        let last = ends.next().map_or(Some(first), number)?;
        let weight = match sides.next() {
            Some(digits) => number(digits).and_then(|n| u8::try_from(n).ok()).filter(|&n| n > 0)?,
            None => 0,
        };
        if first > last {
            return None;
        }
        for node in first..=last {
            let node = NodeId::from_index(node)?;
            mask.set(node);
            weights.0[node.index()] = weight;
        }
    }
    Some((mask, weights))
}
