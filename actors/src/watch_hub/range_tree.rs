//! Ranges of keys by what they contain: a search tree ordered by the start of the ranges, where
//! each node knows how far the ranges below it reach. A key finds its ranges without a walk over
//! the others. The tree stays balanced by the heap order of priorities drawn at insertion.

use std::cmp::Ordering;
use std::sync::Arc;

/// Stands for no node.
const NONE: u32 = u32::MAX;

/// The first key behind a range; `None` if the range has no end.
pub(super) type RangeEnd = Option<Arc<[u8]>>;

/// The tree. Each range is in it once, with the number that the owner gave it.
#[derive(Debug)]
pub(super) struct RangeTree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    random: u64,
}

#[derive(Debug)]
struct Node {
    start: Arc<[u8]>,
    end: RangeEnd,
    /// The greatest end of this node and all below it.
    reach: RangeEnd,
    payload: u32,
    priority: u64,
    left: u32,
    right: u32,
}

impl Default for RangeTree {
    fn default() -> RangeTree {
        RangeTree {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }
}

fn by_end(a: &RangeEnd, b: &RangeEnd) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

fn is_behind(end: &RangeEnd, key: &[u8]) -> bool {
    end.as_ref().is_none_or(|end| key < end.as_ref())
}

impl RangeTree {
    /// The number of exactly this range.
    pub(super) fn get(&self, start: &[u8], end: Option<&[u8]>) -> Option<u32> {
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            at = match self.compare(at, start, end) {
                Ordering::Equal => return Some(node.payload),
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
            };
        }
        None
    }

    /// Where a range belongs, as seen from a node.
    fn compare(&self, at: u32, start: &[u8], end: Option<&[u8]>) -> Ordering {
        let node = &self.nodes[at as usize];
        let ends = || match (end, node.end.as_deref()) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => a.cmp(b),
        };
        start.cmp(&node.start).then_with(ends)
    }

    /// Calls `visit` with the number of every range that contains `key`.
    pub(super) fn containing(&self, key: &[u8], visit: &mut impl FnMut(u32)) {
        self.visit(self.root, key, visit);
    }

    fn visit(&self, at: u32, key: &[u8], visit: &mut impl FnMut(u32)) {
        if at == NONE || !is_behind(&self.nodes[at as usize].reach, key) {
            return;
        }
        let node = &self.nodes[at as usize];
        self.visit(node.left, key, visit);
        if node.start.as_ref() <= key {
            if is_behind(&node.end, key) {
                visit(node.payload);
            }
            self.visit(node.right, key, visit);
        }
    }

    /// Gives a range its number, replacing a former one.
    pub(super) fn insert(&mut self, start: Arc<[u8]>, end: RangeEnd, payload: u32) {
        self.remove(&start, end.as_deref());
        let (left, right) = self.split(self.root, &start, end.as_deref());
        let node = Node {
            reach: end.clone(),
            start,
            end,
            payload,
            priority: self.draw(),
            left: NONE,
            right: NONE,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("watchers are far fewer than 4 G")
            }
        };
        let left = self.merge(left, at);
        self.root = self.merge(left, right);
    }

    /// Forgets a range.
    pub(super) fn remove(&mut self, start: &[u8], end: Option<&[u8]>) {
        self.root = self.remove_below(self.root, start, end);
    }

    fn remove_below(&mut self, at: u32, start: &[u8], end: Option<&[u8]>) -> u32 {
        if at == NONE {
            return NONE;
        }
        let (left, right) = (self.nodes[at as usize].left, self.nodes[at as usize].right);
        match self.compare(at, start, end) {
            Ordering::Equal => {
                self.free.push(at);
                let node = &mut self.nodes[at as usize];
                // The keys are freed now, not when the slot is used again.
                (node.start, node.end, node.reach) = (Arc::from([]), None, None);
                return self.merge(left, right);
            }
            Ordering::Less => {
                self.nodes[at as usize].left = self.remove_below(left, start, end);
            }
            Ordering::Greater => {
                self.nodes[at as usize].right = self.remove_below(right, start, end);
            }
        }
        self.update(at);
        at
    }

    /// Cuts the tree at `at` into what comes before the range and the rest.
    fn split(&mut self, at: u32, start: &[u8], end: Option<&[u8]>) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        if self.compare(at, start, end) == Ordering::Greater {
            let (left, right) = self.split(self.nodes[at as usize].right, start, end);
            self.nodes[at as usize].right = left;
            self.update(at);
            (at, right)
        } else {
            let (left, right) = self.split(self.nodes[at as usize].left, start, end);
            self.nodes[at as usize].left = right;
            self.update(at);
            (left, at)
        }
    }

    /// Joins two trees; the first comes before the second.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        }
        if self.nodes[left as usize].priority > self.nodes[right as usize].priority {
            let middle = self.nodes[left as usize].right;
            self.nodes[left as usize].right = self.merge(middle, right);
            self.update(left);
            left
        } else {
            let middle = self.nodes[right as usize].left;
            self.nodes[right as usize].left = self.merge(left, middle);
            self.update(right);
            right
        }
    }

    fn update(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let mut reach = &node.end;
        for below in [node.left, node.right] {
            if below != NONE {
                let other = &self.nodes[below as usize].reach;
                if by_end(other, reach) == Ordering::Greater {
                    reach = other;
                }
            }
        }
        let reach = reach.clone();
        self.nodes[at as usize].reach = reach;
    }

    /// The next number of an xorshift generator, which is good enough for balance.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn end_of(end: Option<u8>) -> RangeEnd {
        end.map(|end| Arc::from([end]))
    }

    proptest! {
        #[test]
        fn the_tree_finds_the_ranges_that_a_walk_over_all_would_find(
            steps in prop::collection::vec((0u8..3, 0u8..12, prop::option::of(0u8..12)), 1..120),
        ) {
            let mut tree = RangeTree::default();
            let mut model: BTreeMap<(u8, Option<u8>), u32> = BTreeMap::new();
            for (number, (kind, start, end)) in (0..).zip(steps) {
                if kind == 0 {
                    tree.remove(&[start], end_of(end).as_deref());
                    model.remove(&(start, end));
                } else {
                    tree.insert(Arc::from([start]), end_of(end), number);
                    model.insert((start, end), number);
                }
                for key in 0u8..12 {
                    let mut found = Vec::new();
                    tree.containing(&[key], &mut |payload| found.push(payload));
                    found.sort_unstable();
                    let contains = |(start, end): &(u8, Option<u8>)| {
                        *start <= key && end.is_none_or(|end| key < end)
                    };
                    let ranges = model.iter().filter(|(range, _)| contains(range));
                    let mut expected: Vec<u32> = ranges.map(|(_, number)| *number).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected);
                }
                prop_assert_eq!(
                    tree.get(&[start], end_of(end).as_deref()),
                    model.get(&(start, end)).copied()
                );
            }
        }
    }

    #[test]
    fn ten_thousand_ranges_in_order_make_no_deep_tree() {
        let mut tree = RangeTree::default();
        for n in 0..10_000u32 {
            tree.insert(Arc::from(n.to_be_bytes()), None, n);
        }
        fn depth(tree: &RangeTree, at: u32) -> usize {
            if at == NONE {
                return 0;
            }
            let node = &tree.nodes[at as usize];
            1 + depth(tree, node.left).max(depth(tree, node.right))
        }
        assert!(depth(&tree, tree.root) < 60);
    }
}
