//! Trees against known answers, against the RFC's own recursive definition, and proofs against every other claim.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

/// The definition of section 2.1, word for word.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty(),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(split(many.len() as u64) as usize);
            join(&mth(left), &mth(right))
        }
    }
}

struct Leaves(Vec<Hash>);

impl Leaves {
    fn of(count: u64) -> Self {
        Self((0..count).map(|n| leaf(&n.to_le_bytes())).collect())
    }

    fn mth(&self, size: u64) -> Hash {
        mth(&self.0[..size as usize])
    }
}

impl Nodes for Leaves {
    type Error = Infallible;
    fn node(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
        let (begin, end) = (index << level, (index + 1) << level);
        Ok(mth(&self.0[begin as usize..end as usize]))
    }
}

/// The leaves of the vectors that certificate-transparency's own tests use.
fn known() -> Vec<Vec<u8>> {
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
        .map(|text| hex::decode(text).unwrap())
        .to_vec()
}

#[test]
fn trees_have_the_roots_that_others_computed() {
    let expected = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut edge = Edge::default();
    assert_eq!(hex::encode(edge.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (line, root) in known().iter().zip(expected) {
        edge.push(leaf(line));
        assert_eq!(hex::encode(edge.root()), root, "{} leaves", edge.size());
    }
}

#[test]
fn proofs_are_those_that_others_computed() {
    let leaves = Leaves(known().iter().map(|line| leaf(line)).collect());
    let hex = |proof: Vec<Hash>| proof.iter().map(hex::encode).collect::<Vec<_>>();
    assert_eq!(
        hex(inclusion(&leaves, 5, 8).unwrap()),
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
    assert_eq!(
        hex(consistency(&leaves, 6, 8).unwrap()),
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
}

#[test]
fn every_proof_of_every_small_tree_holds_and_no_other_claim_does() {
    let leaves = Leaves::of(20);
    for size in 0..=20 {
        let top = root(&leaves, size).unwrap();
        assert_eq!(top, leaves.mth(size));
        for index in 0..size {
            let proof = inclusion(&leaves, index, size).unwrap();
            let claim = |index, size| includes(leaves.0[index as usize], index, size, &proof, &top);
            for (other, total) in (0..20).flat_map(|other| (0..=21).map(move |total| (other, total))) {
                // A proof does not say how large the tree is; the root does, and that is fixed by the checkpoint.
                assert!(!claim(other, total) || other == index, "{index} of {size} as {other} of {total}");
            }
            assert!(claim(index, size));
            let before = Edge::before(index, size, &proof).unwrap();
            assert_eq!(before, Edge::of(&leaves, index).unwrap());
        }
        for from in 0..=size {
            let proof = consistency(&leaves, from, size).unwrap();
            let first = leaves.mth(from);
            assert!(extends((from, &first), (size, &top), &proof), "{from} to {size}");
            let wrong = leaf(b"another");
            assert!(from == 0 || !extends((from, &wrong), (size, &top), &proof));
            assert!(from == 0 || !extends((from, &first), (size, &wrong), &proof));
            assert!(from == size || !extends((size, &top), (from, &first), &proof));
        }
    }
}

proptest! {
    #[test]
    fn proofs_of_any_tree_hold_and_break_with_any_bit(
        size in 1u64..300,
        index in any::<proptest::sample::Index>(),
        from in any::<proptest::sample::Index>(),
        bit in 0usize..256,
        at in any::<proptest::sample::Index>(),
    ) {
        let leaves = Leaves::of(size);
        let (index, from) = (index.index(size as usize) as u64, from.index(size as usize) as u64);
        let (top, first) = (leaves.mth(size), leaves.mth(from));
        let mut edge = Edge::default();
        leaves.0.iter().for_each(|leaf| edge.push(*leaf));
        prop_assert_eq!(edge.root(), top);
        prop_assert_eq!(&edge, &Edge::of(&leaves, size).unwrap());

        let mut proof = inclusion(&leaves, index, size).unwrap();
        prop_assert!(includes(leaves.0[index as usize], index, size, &proof, &top));
        prop_assert!(!includes(leaf(b"x"), index, size, &proof, &top));
        if !proof.is_empty() {
            let which = at.index(proof.len());
            proof[which][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!includes(leaves.0[index as usize], index, size, &proof, &top));
            proof.pop();
            prop_assert!(!includes(leaves.0[index as usize], index, size, &proof, &top));
        }

        let mut proof = consistency(&leaves, from, size).unwrap();
        prop_assert!(extends((from, &first), (size, &top), &proof));
        if !proof.is_empty() {
            let which = at.index(proof.len());
            proof[which][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!extends((from, &first), (size, &top), &proof));
            proof.push(top);
            prop_assert!(!extends((from, &first), (size, &top), &proof));
        }
    }
}
