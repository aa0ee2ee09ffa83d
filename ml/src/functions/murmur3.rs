//! Murmur3 of 32 bits for x86 (Austin Appleby, public domain), and the buckets that features are hashed into.

/// The seed that Spark ML hashes with.
const SEED: u32 = 42;

/// What a null hashes to, as in Spark ML: the seed itself.
pub(super) const NULL_HASH: i32 = SEED as i32;

/// The hash of some bytes, as Spark ML's `HashingTF` and `FeatureHasher` have it of a text's UTF-8.
pub(super) fn hash(bytes: &[u8]) -> i32 {
    let (words, tail) = bytes.as_chunks::<4>();
    let mut state = words.iter().fold(SEED, |state, word| mixed(state, u32::from_le_bytes(*word)));
    if !tail.is_empty() {
        let word = tail.iter().rev().fold(0u32, |word, &byte| word << 8 | u32::from(byte));
        state ^= scrambled(word);
    }
    finished(state ^ bytes.len() as u32) as i32
}

/// The bucket of a hash among `size`: the remainder, from 0 on.
pub(super) fn bucket(hash: i32, size: i32) -> u32 {
    hash.rem_euclid(size) as u32
}

fn scrambled(word: u32) -> u32 {
    word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

fn mixed(state: u32, word: u32) -> u32 {
    (state ^ scrambled(word)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn finished(mut state: u32) -> u32 {
    state ^= state >> 16;
    state = state.wrapping_mul(0x85eb_ca6b);
    state ^= state >> 13;
    state = state.wrapping_mul(0xc2b2_ae35);
    state ^ state >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_scikit_learn() {
        // sklearn.utils.murmurhash3_32(text, seed=42) of scikit-learn 1.9.
        let expected = [
            ("", 142593372),
            ("a", -1293573533),
            ("ab", -684913081),
            ("abc", 1313807976),
            ("abcd", -396302900),
            ("abcde", -1361433616),
            ("é", 1023967903),
            ("😀x", -1053363945),
            ("a longer text of several words", 1247189106),
        ];
        for (text, hash) in expected {
            assert_eq!(super::hash(text.as_bytes()), hash, "{text:?}");
        }
    }

    #[test]
    fn buckets_start_at_zero() {
        assert_eq!([-1, 0, 7, i32::MIN].map(|hash| bucket(hash, 5)), [4, 0, 2, 2]);
        assert_eq!(bucket(i32::MIN, i32::MAX), i32::MAX as u32 - 1);
    }
}
