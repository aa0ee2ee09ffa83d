//! The bins of a row next to each other.

use rayon::prelude::*;

use super::bins::Binned;

/// How many features are in a block.
const WIDTH: usize = 32;
/// Rows that are copied together: what is read of the columns stays in the first cache.
const ROWS_PER_PIECE: usize = 1024;

/// Binned rows, the bins of 32 features in half a cache line: where a leaf has few of all rows, a row is read in one piece
/// and not once for each column.
#[derive(Debug)]
pub(crate) struct RowBins {
    /// By 32 features, then by row.
    blocks: Vec<Vec<RowBlock>>,
    n_rows: usize,
}

/// A row's bins of the features of a block.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub(crate) struct RowBlock([u8; WIDTH]);

impl RowBins {
    /// Copies the columns' bins.
    pub(crate) fn new(binned: &Binned) -> Self {
        let blocks = binned.columns.chunks(WIDTH).map(|columns| block(columns, binned.n_rows)).collect();
        Self { blocks, n_rows: binned.n_rows }
    }

    /// The bytes that the bins of a row take.
    pub(crate) fn bytes_of_row(&self) -> usize {
        self.blocks.len() * size_of::<RowBlock>()
    }

    /// How many rows there are.
    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The bin of a row.
    #[inline]
    pub(crate) fn bin(&self, feature: usize, row: usize) -> u8 {
        self.blocks[Self::place(feature)][row].0[feature % WIDTH]
    }

    /// The place of the block that a feature is in.
    pub(crate) fn place(feature: usize) -> usize {
        feature / WIDTH
    }

    /// A block's rows.
    pub(crate) fn block(&self, place: usize) -> &[RowBlock] {
        &self.blocks[place]
    }
}

impl RowBlock {
    /// A row that is yet to be copied.
    pub(crate) const EMPTY: Self = Self([0; WIDTH]);

    /// The bin of a feature that is in this block.
    #[inline]
    pub(crate) fn bin(&self, feature: usize) -> usize {
        usize::from(self.0[feature % WIDTH])
    }
}

/// Features, ascending, by the block that they are in.
pub(crate) fn in_blocks(features: &[usize]) -> impl Iterator<Item = &[usize]> {
    features.chunk_by(|a, b| RowBins::place(*a) == RowBins::place(*b))
}

fn block(columns: &[Vec<u8>], n_rows: usize) -> Vec<RowBlock> {
    let mut rows = vec![RowBlock::EMPTY; n_rows];
    rows.par_chunks_mut(ROWS_PER_PIECE).enumerate().for_each(|(piece, rows)| {
        for (place, column) in columns.iter().enumerate() {
            rows.iter_mut().zip(&column[piece * ROWS_PER_PIECE..]).for_each(|(row, bin)| row.0[place] = *bin);
        }
    });
    rows
}
