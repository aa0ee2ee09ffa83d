//! Parting the rows of a leaf.

use rayon::prelude::*;

use super::binned_tree::{BinSet, contains};

/// Rows of one parallel piece of work.
const ROWS_PER_PIECE: usize = 16_384;

/// Puts the rows whose bins are in a set before the others, both in their order; how many they are. Large leaves are parted
/// by several threads, with the same result.
pub(crate) fn partition(
    rows: &mut [u32],
    bin: impl Fn(u32) -> u8 + Sync,
    left: &BinSet,
    scratch: &mut Vec<u32>,
) -> usize {
    let mut goes_left = [false; 256];
    for (bin, goes) in (0..=255).zip(&mut goes_left) {
        *goes = contains(left, bin);
    }
    let goes_left = |row| goes_left[usize::from(bin(row))];
    scratch.resize(scratch.len().max(rows.len()), 0);
    let scratch = &mut scratch[..rows.len()];
    if rows.len() < 2 * ROWS_PER_PIECE {
        return partition_piece(rows, goes_left, scratch);
    }
    let pieces = rows.par_chunks_mut(ROWS_PER_PIECE).zip(scratch.par_chunks_mut(ROWS_PER_PIECE));
    let n_left: Vec<usize> = pieces.map(|(rows, scratch)| partition_piece(rows, goes_left, scratch)).collect();
    join_pieces(rows, &n_left, scratch)
}

/// Parts the rows of a piece.
fn partition_piece(rows: &mut [u32], goes_left: impl Fn(u32) -> bool, scratch: &mut [u32]) -> usize {
    let (mut n_left, mut n_right) = (0, 0);
    // Both sides are written and one counter moves: no branch to mispredict. `n_left` never passes the read.
    for i in 0..rows.len() {
        let row = rows[i];
        let left = goes_left(row);
        rows[n_left] = row;
        scratch[n_right] = row;
        n_left += usize::from(left);
        n_right += usize::from(!left);
    }
    rows[n_left..].copy_from_slice(&scratch[..n_right]);
    n_left
}

/// Puts the left sides of pieces that are parted each before their right sides; how many rows are on the left.
fn join_pieces(rows: &mut [u32], n_left: &[usize], scratch: &mut [u32]) -> usize {
    let total = n_left.iter().sum();
    let (mut lefts, mut rights) = scratch.split_at_mut(total);
    let mut moves = Vec::with_capacity(n_left.len());
    for (piece, &n_left) in rows.chunks(ROWS_PER_PIECE).zip(n_left) {
        let (left, right);
        (left, lefts) = lefts.split_at_mut(n_left);
        (right, rights) = rights.split_at_mut(piece.len() - n_left);
        moves.push((piece, left, right));
    }
    moves.into_par_iter().for_each(|(piece, left, right)| {
        let (from_left, from_right) = piece.split_at(left.len());
        left.copy_from_slice(from_left);
        right.copy_from_slice(from_right);
    });
    let pieces = rows.par_chunks_mut(ROWS_PER_PIECE).zip(scratch.par_chunks(ROWS_PER_PIECE));
    pieces.for_each(|(rows, scratch)| rows.copy_from_slice(scratch));
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimator::support::trees::insert;

    #[test]
    fn both_sides_keep_their_order_however_many_rows_there_are() {
        let bins: Vec<u8> = (0..100_000u32).map(|row| (row.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut left = BinSet::default();
        (0..256).filter(|bin| bin % 3 == 0).for_each(|bin| insert(&mut left, bin));
        for n in [0, 1, 100, 2 * ROWS_PER_PIECE, 99_999] {
            let mut rows: Vec<u32> = (0..n as u32).collect();
            let goes_left = |row: &u32| contains(&left, bins[*row as usize]);
            let (lefts, rights): (Vec<u32>, Vec<u32>) = rows.iter().partition(|row| goes_left(row));
            assert_eq!(partition(&mut rows, |row| bins[row as usize], &left, &mut Vec::new()), lefts.len(), "{n} rows");
            assert_eq!(rows, [lefts, rights].concat(), "{n} rows");
        }
    }
}
