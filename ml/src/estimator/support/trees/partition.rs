//! Parting the rows of a leaf.

use super::binned_tree::{BinSet, contains};

/// Puts the rows whose bins are in a set before the others, both in their order; how many they are.
pub(crate) fn partition(rows: &mut [u32], bins: &[u8], left: &BinSet, scratch: &mut Vec<u32>) -> usize {
    let mut goes_left = [false; 256];
    for (bin, goes) in (0..=255).zip(&mut goes_left) {
        *goes = contains(left, bin);
    }
    scratch.resize(scratch.len().max(rows.len()), 0);
    let (mut n_left, mut n_right) = (0, 0);
    // Both sides are written and one counter moves: no branch to mispredict. `n_left` never passes the read.
    for i in 0..rows.len() {
        let row = rows[i];
        let left = goes_left[usize::from(bins[row as usize])];
        rows[n_left] = row;
        scratch[n_right] = row;
        n_left += usize::from(left);
        n_right += usize::from(!left);
    }
    rows[n_left..].copy_from_slice(&scratch[..n_right]);
    n_left
}
