//! The Merkle tree of RFC 6962: hashes, proofs and their checks. Where hashes are kept is the caller's affair
//! ([`Nodes`]).
//!
//! A node is (level, index): the root of the complete subtree over leaves `index << level` up to
//! `(index + 1) << level`.

use sha2::{Digest, Sha256};

pub type Hash = [u8; 32];

/// The hash of a record: its line without the newline.
pub fn leaf(line: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(line).finalize().into()
}

pub fn join(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of a tree without leaves.
pub fn empty() -> Hash {
    Sha256::digest([]).into()
}

/// The right edge of a tree, which is all that is needed to make it grow: the roots of its complete subtrees,
/// the largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edge {
    size: u64,
    roots: Vec<Hash>,
}

impl Edge {
    /// The edge of a tree of which the nodes are known.
    pub fn of<N: Nodes>(nodes: &N, size: u64) -> Result<Self, N::Error> {
        let levels = (0..64).rev().filter(|level| size >> level & 1 == 1);
        let roots = levels.map(|level| nodes.node(level, (size >> level) - 1)).collect::<Result<_, _>>()?;
        Ok(Self { size, roots })
    }

    /// The edge of the tree before leaf `index`, out of that leaf's (checked) inclusion proof: the hashes to its left.
    pub fn before(index: u64, size: u64, proof: &[Hash]) -> Option<Self> {
        let mut left = Vec::new();
        climb(index, size, proof, |sibling, is_left| {
            if is_left {
                left.push(*sibling)
            }
        })?;
        left.reverse();
        Self::from_roots(index, left)
    }

    /// An edge that was written down; `None` if these can't be the roots of so many leaves.
    pub fn from_roots(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (roots.len() == size.count_ones() as usize).then_some(Self { size, roots })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, the largest first.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    pub fn push(&mut self, leaf: Hash) {
        self.push_and_tell(leaf, |_, _, _| {});
    }

    /// `made` is told of every node that is complete with this leaf, from the leaf upwards: level, index, hash.
    pub fn push_and_tell(&mut self, leaf: Hash, mut made: impl FnMut(u32, u64, &Hash)) {
        let (mut hash, mut level) = (leaf, 0);
        made(level, self.size, &hash);
        while self.size >> level & 1 == 1 {
            let left = self.roots.pop().expect("there is a root for each bit of the size");
            hash = join(&left, &hash);
            level += 1;
            made(level, self.size >> level, &hash);
        }
        self.roots.push(hash);
        self.size += 1;
    }

    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(last) = roots.next() else { return empty() };
        roots.fold(*last, |right, left| join(left, &right))
    }
}

/// Where the hashes of complete subtrees are.
pub trait Nodes {
    type Error;

    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The root of the first `size` leaves.
pub fn root<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    Ok(Edge::of(nodes, size)?.root())
}

/// Shows that leaf `index` is in the tree of `size` leaves: section 2.1.1 of the RFC. `index` is below `size`.
pub fn inclusion<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut begin, mut end) = (0, size);
    let mut proof = Vec::new();
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            proof.push(range(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(range(nodes, begin, middle)?);
            begin = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Shows that the tree of `from` leaves is the beginning of that of `to`: section 2.1.2. `from` is not above `to`;
/// of an empty tree everything is an extension, and there is nothing to show.
pub fn consistency<N: Nodes>(nodes: &N, from: u64, to: u64) -> Result<Vec<Hash>, N::Error> {
    let mut proof = Vec::new();
    if from == 0 {
        return Ok(proof);
    }
    let (mut begin, mut end) = (0, to);
    while end != from {
        let middle = begin + split(end - begin);
        if from <= middle {
            proof.push(range(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(range(nodes, begin, middle)?);
            begin = middle;
        }
    }
    if begin > 0 {
        proof.push(range(nodes, begin, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The largest power of two below `count`, which is above 1.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The hash over some leaves that are a subtree, complete or at the right edge.
fn range<N: Nodes>(nodes: &N, begin: u64, end: u64) -> Result<Hash, N::Error> {
    let count = end - begin;
    if count.is_power_of_two() {
        return nodes.node(count.ilog2(), begin / count);
    }
    let middle = begin + split(count);
    Ok(join(&range(nodes, begin, middle)?, &range(nodes, middle, end)?))
}

/// Whether the proof shows that the tree with this root has this leaf there.
pub fn includes(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    let mut hash = leaf;
    let climbed = climb(index, size, proof, |sibling, is_left| {
        hash = if is_left { join(sibling, &hash) } else { join(&hash, sibling) };
    });
    climbed.is_some() && hash == *root
}

/// From a leaf to the root, as section 2.1.3.2 of RFC 9162 goes. `None`: so many siblings do not fit the tree.
fn climb(index: u64, size: u64, proof: &[Hash], mut step: impl FnMut(&Hash, bool)) -> Option<()> {
    let (mut at, mut last) = (index, size.checked_sub(1).filter(|last| index <= *last)?);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        let is_left = at & 1 == 1 || at == last;
        step(sibling, is_left);
        if is_left {
            (at, last) = skip(at, last, 0);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(())
}

/// Levels at which the node has no sibling are passed.
fn skip(at: u64, last: u64, bit: u64) -> (u64, u64) {
    let levels = if bit == 0 { at.trailing_zeros() } else { at.trailing_ones() };
    if at == 0 { (at, last) } else { (at >> levels, last >> levels) }
}

/// Whether the proof shows that the second tree begins with all of the first: section 2.1.4.2 of RFC 9162.
pub fn extends((from, first): (u64, &Hash), (to, second): (u64, &Hash), proof: &[Hash]) -> bool {
    if from > to {
        return false;
    }
    if from == 0 || from == to {
        return proof.is_empty() && (from != to || first == second);
    }
    let whole = from.is_power_of_two().then_some(first);
    let mut path = whole.into_iter().chain(proof);
    let Some(start) = path.next() else { return false };
    let (mut old, mut new) = (*start, *start);
    let (mut at, mut last) = skip(from - 1, to - 1, 1);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            (old, new) = (join(sibling, &old), join(sibling, &new));
            (at, last) = skip(at, last, 0);
        } else {
            new = join(&new, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old == *first && new == *second
}

#[cfg(test)]
mod tests;
