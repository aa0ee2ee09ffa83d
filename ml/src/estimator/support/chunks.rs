//! Parallel work over rows whose result does not depend on the number of threads.
//!
//! Rows are cut into chunks of a constant size and the chunks' results merge in chunk order, so sums have the same
//! rounding with one thread and with fifty.

use std::ops::Range;

use rayon::prelude::*;

use crate::Result;

/// How many chunks are held at once before they are merged: bounds memory, large enough to feed many threads.
const CHUNKS_PER_WAVE: usize = 32;

/// Maps each chunk of `0..n_rows` in parallel and folds the results in chunk order.
pub(crate) fn fold_chunks<T, A>(
    n_rows: usize,
    chunk_rows: usize,
    mut into: A,
    map: impl Fn(Range<usize>) -> T + Sync,
    mut merge: impl FnMut(&mut A, T),
) -> A
where
    T: Send,
{
    let n_chunks = n_rows.div_ceil(chunk_rows);
    for wave in (0..n_chunks).step_by(CHUNKS_PER_WAVE) {
        let end = (wave + CHUNKS_PER_WAVE).min(n_chunks);
        let parts: Vec<T> =
            (wave..end).into_par_iter().map(|c| map(c * chunk_rows..((c + 1) * chunk_rows).min(n_rows))).collect();
        for part in parts {
            merge(&mut into, part);
        }
    }
    into
}

/// Maps each of some chunks, which keep what they know between passes, in parallel and folds the results in their order.
///
/// # Errors
/// The first chunk's that has one.
pub(crate) fn try_fold_chunks_mut<C, T, A>(
    chunks: &mut [C],
    mut into: A,
    map: impl Fn(&mut C) -> Result<T> + Sync,
    mut merge: impl FnMut(&mut A, T),
) -> Result<A>
where
    C: Send,
    T: Send,
{
    for wave in chunks.chunks_mut(CHUNKS_PER_WAVE) {
        let parts: Vec<Result<T>> = wave.par_iter_mut().map(&map).collect();
        for part in parts {
            merge(&mut into, part?);
        }
    }
    Ok(into)
}

/// `into[i] += from[i]`.
pub(crate) fn add_into(into: &mut [f64], from: &[f64]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a += b;
    }
}
