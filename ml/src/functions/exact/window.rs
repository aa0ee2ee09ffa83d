//! A buffer before the exact sums: one wide integer for each exponent that comes up.

use super::superaccumulator::{Superaccumulator, parts};

/// Squares added between two drains: each has at most 106 bits, and the integers have 128.
const MAX_PENDING: u32 = 1 << 20;

/// Mantissas and their squares, summed by exponent; adding is one or two integer additions.
///
/// Columns have few exponents, so the window is small; it grows to what comes up.
#[derive(Debug, Clone, Default)]
pub(super) struct ExponentWindow {
    first: usize,
    sums: Vec<i128>,
    squares: Vec<u128>,
    pending: u32,
}

impl ExponentWindow {
    /// Adds a finite value, and its square where those are wanted.
    #[inline]
    pub(super) fn add(&mut self, value: f64, with_squares: bool) {
        let (mantissa, offset) = parts(value);
        let mut index = (offset as usize).wrapping_sub(self.first);
        if index >= self.sums.len() {
            self.grow(offset as usize);
            index = offset as usize - self.first;
        }
        self.sums[index] += if value.is_sign_negative() { -i128::from(mantissa) } else { i128::from(mantissa) };
        if with_squares {
            self.squares[index] += u128::from(mantissa) * u128::from(mantissa);
        }
        self.pending += 1;
    }

    /// Whether it must be drained before the next value.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.pending >= MAX_PENDING
    }

    /// Moves what it holds to the exact sums.
    pub(super) fn drain(&mut self, sum: &mut Superaccumulator, squares: Option<&mut Superaccumulator>) {
        for (index, value) in self.sums.iter_mut().enumerate() {
            sum.add_bits_at(value.unsigned_abs(), (self.first + index) as u32, *value < 0);
            *value = 0;
        }
        if let Some(squares) = squares {
            for (index, value) in self.squares.iter_mut().enumerate() {
                squares.add_bits_at(*value, 2 * (self.first + index) as u32, false);
                *value = 0;
            }
        }
        self.pending = 0;
    }

    pub(super) fn size(&self) -> usize {
        (self.sums.capacity() + self.squares.capacity()) * size_of::<i128>()
    }

    fn grow(&mut self, offset: usize) {
        if self.sums.is_empty() {
            self.first = offset;
        }
        let before = self.first.saturating_sub(offset);
        self.first -= before;
        let len = (self.sums.len() + before).max(offset - self.first + 1);
        self.sums.splice(0..0, std::iter::repeat_n(0, before));
        self.squares.splice(0..0, std::iter::repeat_n(0, before));
        self.sums.resize(len, 0);
        self.squares.resize(len, 0);
    }
}
