//! Many small objects in one thread.

use super::{Params, Survivors, on_threads};
use crate::block::Block;
use crate::rng::Rng;

/// Pushes up to half a million objects and pops them, with small waves on the way.
pub fn stack(params: &Params) -> Survivors {
    on_threads(params.threads, |n| {
        let mut rng = Rng::new(n as u64);
        let peak = (500_000 / params.threads).max(1000);
        let mut stack: Vec<Block> = Vec::with_capacity(peak + 1000);
        let mut left = params.share() as i64;
        let mut growing = true;
        while left > 0 {
            let (pushes, pops) = if growing { (1000, 400) } else { (400, 1000) };
            stack.extend((0..pushes).map(|_| Block::new(rng.log_size(16, 128))));
            for _ in 0..pops {
                stack.pop();
            }
            left -= pushes as i64;
            growing = if growing { stack.len() < peak } else { stack.is_empty() };
        }
        while stack.pop().is_some() {}
        Survivors::new()
    })
}

struct Node {
    children: Option<(Box<Node>, Box<Node>)>,
}

impl Node {
    fn grow(depth: u32) -> Self {
        let children =
            (depth > 0).then(|| (Box::new(Self::grow(depth - 1)), Box::new(Self::grow(depth - 1))));
        Self { children }
    }

    fn count(&self) -> u64 {
        1 + self.children.as_ref().map_or(0, |(left, right)| left.count() + right.count())
    }
}

/// One long-lived tree of a quarter of the nodes, and short-lived ones of growing depth.
pub fn tree(params: &Params) -> Survivors {
    on_threads(params.threads, |_| {
        let long = Node::grow((params.share() / 4).max(2).ilog2());
        let mut left = params.share() as i64;
        let mut depth = 4;
        while left > 0 {
            let nodes = Node::grow(depth).count();
            assert_eq!(nodes, (2 << depth) - 1);
            left -= nodes as i64;
            depth = if depth == 14 { 4 } else { depth + 2 };
        }
        assert!(long.count() > 1);
        Survivors::new()
    })
}
