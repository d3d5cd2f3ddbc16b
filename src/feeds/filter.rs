//! A Bloom filter of ids, which are hashes. The bits of one id lie in one cache line, because filters are asked about each
//! new id.

#[derive(Debug)]
pub(super) struct Filter(Box<[u64]>);

/// Words of a block, which is a cache line.
const BLOCK: usize = 8;

impl Filter {
    /// One for so many ids, `in_a_block` of them to 512 bits.
    pub fn sized(ids: usize, in_a_block: usize) -> Self {
        Self(vec![0; ids.div_ceil(in_a_block).max(1) * BLOCK].into_boxed_slice())
    }

    pub fn insert(&mut self, id: u128) {
        let block = block_of(id, self.0.len());
        for bit in bits_of(id) {
            self.0[block + bit / 64] |= 1 << (bit % 64);
        }
    }

    pub fn may_hold(&self, id: u128) -> bool {
        let block = block_of(id, self.0.len());
        bits_of(id).all(|bit| self.0[block + bit / 64] >> (bit % 64) & 1 == 1)
    }

    pub fn words(&self) -> &[u64] {
        &self.0
    }

    /// Of its words, little-endian; `None` if these are none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let whole = rest.is_empty() && !words.is_empty() && words.len().is_multiple_of(BLOCK);
        whole.then(|| Self(words.iter().map(|word| u64::from_le_bytes(*word)).collect()))
    }
}

/// First word of the id's block.
fn block_of(id: u128, words: usize) -> usize {
    let blocks = (words / BLOCK) as u128;
    (((id & u128::from(u64::MAX)) * blocks) >> 64) as usize * BLOCK
}

fn bits_of(id: u128) -> impl Iterator<Item = usize> {
    (0..6).map(move |n| (id >> (64 + 9 * n)) as usize % 512)
}
