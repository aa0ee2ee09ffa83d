//! Centres packed for the computation of many distances, which is where the time of k-means goes.
//!
//! A panel is [`LANES`] centres, column by column; four rows meet a panel at once, so sums stay in registers.

use std::ops::Range;

use super::rows::Rows;

/// Centres of one panel: two vectors of four doubles.
pub(super) const LANES: usize = 8;
/// Rows that meet a panel at once.
const QUAD: usize = 4;

/// The numbers of some centres by lane.
type Lane = [f64; LANES];

/// Centres in panels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Panels {
    width: usize,
    n_panels: usize,
    /// `[n_panels, width]`.
    values: Vec<Lane>,
    /// The squared lengths by panel; infinite where there is no centre.
    norms: Vec<Lane>,
}

/// The nearest and the second nearest centre of a row, by squared distance; the first of equals is nearest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Nearest {
    pub(super) centre: u32,
    pub(super) first: f64,
    pub(super) second: f64,
}

impl Nearest {
    pub(super) const NONE: Self = Self { centre: 0, first: f64::INFINITY, second: f64::INFINITY };
}

impl Panels {
    /// Packs centres, `[n, width]`, row-major.
    pub(super) fn new(centres: &[f64], width: usize) -> Self {
        let n_panels = (centres.len() / width).div_ceil(LANES);
        let mut values = vec![[0.0; LANES]; n_panels * width];
        let mut norms = vec![[f64::INFINITY; LANES]; n_panels];
        for (i, centre) in centres.chunks_exact(width).enumerate() {
            let (panel, lane) = (i / LANES, i % LANES);
            for (into, v) in values[panel * width..].iter_mut().zip(centre) {
                into[lane] = *v;
            }
            norms[panel][lane] = centre.iter().map(|v| v * v).sum();
        }
        Self { width, n_panels, values, norms }
    }

    /// All panels.
    pub(super) fn all(&self) -> Range<usize> {
        0..self.n_panels
    }

    /// The squared length of the longest centre.
    pub(super) fn longest(&self) -> f64 {
        let lengths = self.norms.iter().flatten().filter(|norm| norm.is_finite());
        lengths.fold(0.0, |longest, norm| norm.max(longest))
    }

    /// The nearest centres, among those of some panels, of each row in a list.
    ///
    /// A row's distances do not depend on the rows beside it.
    pub(super) fn nearest(&self, panels: Range<usize>, rows: &Rows, list: &[u32], into: &mut Vec<Nearest>) {
        into.clear();
        into.resize(list.len(), Nearest::NONE);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, the one feature that the function is compiled with.
            return unsafe { self.nearest_avx2(panels, rows, list, into) };
        }
        self.nearest_in_quads(panels, rows, list, into, products);
    }

    /// The squared distances of rows from the centres of the first panel.
    pub(super) fn distances(&self, rows: &Rows) -> Vec<Lane> {
        let one = |row| self.distances_of(0, rows, [row; QUAD], products)[0];
        (0..rows.n_rows).map(one).collect()
    }

    /// [`Self::nearest_in_quads`] with vectors of four doubles where the build's are of two.
    ///
    /// The instructions are the same additions and multiplications, none of them fused: the bits are the same.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn nearest_avx2(&self, panels: Range<usize>, rows: &Rows, list: &[u32], into: &mut [Nearest]) {
        self.nearest_in_quads(panels, rows, list, into, |values, quad| products_avx2(values, quad));
    }

    #[inline(always)]
    fn nearest_in_quads(
        &self,
        panels: Range<usize>,
        rows: &Rows,
        list: &[u32],
        into: &mut [Nearest],
        products: impl Fn(&[Lane], [&[f64]; QUAD]) -> [Lane; QUAD],
    ) {
        for (list, into) in list.chunks(QUAD).zip(into.chunks_mut(QUAD)) {
            // A last quad that is not full repeats its last row.
            let quad = std::array::from_fn(|i| list[i.min(list.len() - 1)] as usize);
            let mut best = Best::default();
            for panel in panels.clone() {
                best.add(panel, &self.distances_of(panel, rows, quad, &products));
            }
            for (i, into) in into.iter_mut().enumerate() {
                *into = Nearest { centre: best.centre[i] as u32, first: best.first[i], second: best.second[i] };
            }
        }
    }

    /// The squared distances of four rows from the centres of a panel.
    #[inline(always)]
    fn distances_of(
        &self,
        panel: usize,
        rows: &Rows,
        quad: [usize; QUAD],
        products: impl Fn(&[Lane], [&[f64]; QUAD]) -> [Lane; QUAD],
    ) -> [Lane; QUAD] {
        let values = &self.values[panel * self.width..(panel + 1) * self.width];
        let mut sums = products(values, quad.map(|row| rows.numbers(row)));
        for (sums, row) in sums.iter_mut().zip(quad) {
            for &column in rows.indicators(row) {
                add_scaled(sums, rows.unit(row), &values[column as usize]);
            }
            let row_norm = rows.norms[row];
            for (sum, norm) in sums.iter_mut().zip(&self.norms[panel]) {
                *sum = ((norm - 2.0 * *sum) + row_norm).max(0.0);
            }
        }
        sums
    }
}

/// The products of four rows' numbers with the centres of a panel.
#[inline(always)]
fn products(values: &[Lane], [x0, x1, x2, x3]: [&[f64]; QUAD]) -> [Lane; QUAD] {
    let (mut s0, mut s1, mut s2, mut s3) = ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for ((((c, x0), x1), x2), x3) in values.iter().zip(x0).zip(x1).zip(x2).zip(x3) {
        add_scaled(&mut s0, *x0, c);
        add_scaled(&mut s1, *x1, c);
        add_scaled(&mut s2, *x2, c);
        add_scaled(&mut s3, *x3, c);
    }
    [s0, s1, s2, s3]
}

/// [`products`] on its own: inlined, its sums would not stay in registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline(never)]
fn products_avx2(values: &[Lane], quad: [&[f64]; QUAD]) -> [Lane; QUAD] {
    products(values, quad)
}

#[inline(always)]
fn add_scaled(sums: &mut Lane, factor: f64, values: &Lane) {
    for lane in 0..LANES {
        sums[lane] += factor * values[lane];
    }
}

/// The nearest centres of four rows, lane by lane so that comparisons are vector instructions.
#[derive(Debug)]
struct Best {
    first: [f64; QUAD],
    second: [f64; QUAD],
    centre: [f64; QUAD],
}

impl Default for Best {
    fn default() -> Self {
        Self { first: [f64::INFINITY; QUAD], second: [f64::INFINITY; QUAD], centre: [0.0; QUAD] }
    }
}

impl Best {
    #[inline(always)]
    fn add(&mut self, panel: usize, distances: &[Lane; QUAD]) {
        for lane in 0..LANES {
            let centre = (panel * LANES + lane) as f64;
            let distances = distances.map(|row| row[lane]);
            for (row, distance) in distances.into_iter().enumerate() {
                let first = self.first[row];
                let is_nearer = distance < first;
                let loser = if is_nearer { first } else { distance };
                self.second[row] = if loser < self.second[row] { loser } else { self.second[row] };
                self.first[row] = if is_nearer { distance } else { first };
                self.centre[row] = if is_nearer { centre } else { self.centre[row] };
            }
        }
    }
}
