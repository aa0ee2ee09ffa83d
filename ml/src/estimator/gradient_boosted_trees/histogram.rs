//! Histograms of fixed-point gradients: exact integer sums per bin.

/// The sums of one bin: the gradient, and the count of rows above the Hessian, packed in one word.
///
/// Two words are one vector addition. Wrapping additions keep the packed fields right as long as the final Hessian
/// sum stays below 2^40, which [`Scale`] sees to.
pub(super) type Sums = [i64; 2];

/// One feature's sums by bin.
pub(super) type Histogram = [Sums; 256];

/// Bits of the packed word that hold the Hessian; the count has the rest.
const HESSIAN_BITS: u32 = 40;
/// The gradient's unit: gradients of the logistic loss are within ±1.
const GRADIENT_UNIT: f64 = (1u64 << 32) as f64;
/// The most rows of a fit: their count must fit above the Hessian.
pub(super) const MOST_ROWS: usize = (1 << (64 - HESSIAN_BITS)) - 1;

/// The fixed-point units of a fit, from its number of rows alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    hessian_unit: f64,
}

impl Scale {
    /// Units with which the sums over `n_rows` rows fit their fields.
    pub(super) fn new(n_rows: usize) -> Self {
        let row_bits = usize::BITS - n_rows.leading_zeros();
        // A row's Hessian is at most 1/4: two more bits.
        Self { hessian_unit: (1u64 << (HESSIAN_BITS - row_bits + 2)) as f64 }
    }

    /// One row's sums.
    #[inline]
    pub(super) fn pack(self, gradient: f64, hessian: f64) -> Sums {
        [(gradient * GRADIENT_UNIT) as i64, (hessian * self.hessian_unit) as i64 | (1 << HESSIAN_BITS)]
    }

    /// The sum of gradients.
    #[inline]
    pub(super) fn gradient(self, sums: Sums) -> f64 {
        sums[0] as f64 * (1.0 / GRADIENT_UNIT)
    }

    /// The sum of Hessians.
    #[inline]
    pub(super) fn hessian(self, sums: Sums) -> f64 {
        (sums[1] & ((1 << HESSIAN_BITS) - 1)) as f64 / self.hessian_unit
    }
}

/// How many rows sums are of.
#[inline]
pub(super) fn count(sums: Sums) -> usize {
    (sums[1] as u64 >> HESSIAN_BITS) as usize
}

/// `a + b`.
#[inline]
pub(super) fn plus(a: Sums, b: Sums) -> Sums {
    [a[0].wrapping_add(b[0]), a[1].wrapping_add(b[1])]
}

/// `a - b`.
#[inline]
pub(super) fn minus(a: Sums, b: Sums) -> Sums {
    [a[0].wrapping_sub(b[0]), a[1].wrapping_sub(b[1])]
}

/// Sums rows into a cleared histogram; `sums` belong to `rows` one by one.
pub(super) fn fill(histogram: &mut Histogram, bins: &[u8], rows: &[u32], sums: &[Sums]) {
    histogram.fill([0, 0]);
    for (&row, &sums) in rows.iter().zip(sums) {
        let into = &mut histogram[usize::from(bins[row as usize])];
        *into = plus(*into, sums);
    }
}

/// Takes the smaller child's sums off the parent's, which leaves the larger child's.
pub(super) fn subtract(parent: &mut Histogram, smaller: &Histogram) {
    for (a, b) in parent.iter_mut().zip(smaller) {
        *a = minus(*a, *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_sums_keep_count_and_hessian_apart() {
        for n in [1usize, 2, 1000, 100_000] {
            let scale = Scale::new(n);
            let row = scale.pack(-0.5, 0.25);
            let sums = (0..n).fold([0, 0], |a, _| plus(a, row));
            assert_eq!(count(sums), n);
            assert_eq!(scale.gradient(sums), -0.5 * n as f64);
            assert_eq!(scale.hessian(sums), 0.25 * n as f64);
            assert_eq!(minus(sums, sums), [0, 0]);
        }
    }
}
