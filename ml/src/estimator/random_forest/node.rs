//! A node that is to be split: its rows, summed by the bins of a feature.

use super::side::Rules;
use super::split;
use super::target::Target;
use crate::Result;
use crate::estimator::FitContext;
use crate::estimator::support::trees::{BinTest, Binned, Meaning};

/// The most bins of a column, that of what is missing included.
pub(super) const BINS: usize = 256;

/// A node and what it is searched with.
pub(super) struct Node<'a, T: Target> {
    pub(super) binned: &'a Binned,
    pub(super) target: &'a T,
    pub(super) rules: &'a Rules,
    pub(super) ctx: &'a FitContext,
    pub(super) rows: &'a [u32],
    /// What each row adds.
    pub(super) added: &'a [T::Row],
    /// What all rows add up to.
    pub(super) total: &'a [i64],
    /// The sums by bin of all features, one after the other, where they are known.
    pub(super) sums: Option<&'a [i64]>,
}

/// What a feature has for a node.
#[derive(Debug)]
pub(super) struct Found {
    /// Whether the rows are in more than one bin.
    pub(super) varies: bool,
    pub(super) test: Option<BinTest>,
}

/// The bins that rows are in, ascending.
struct Occurring {
    bins: [u8; BINS],
    len: usize,
}

impl Occurring {
    fn of(is_present: impl Iterator<Item = bool>) -> Self {
        let mut bits = [0u64; 4];
        for (bin, is_present) in is_present.enumerate() {
            bits[bin >> 6] |= u64::from(is_present) << (bin & 63);
        }
        Self::of_bits(bits)
    }

    fn of_bits(bits: [u64; 4]) -> Self {
        let mut out = Self { bins: [0; BINS], len: 0 };
        for (start, mut word) in (0u32..).step_by(64).zip(bits) {
            while word != 0 {
                out.bins[out.len] = (start + word.trailing_zeros()) as u8;
                out.len += 1;
                word &= word - 1;
            }
        }
        out
    }

    fn as_slice(&self) -> &[u8] {
        &self.bins[..self.len]
    }
}

impl<T: Target> Node<'_, T> {
    /// The best split on a feature. `scratch` has the sums of one feature, all 0 before and after.
    ///
    /// # Errors
    /// Cancellation.
    pub(super) fn find(&self, scratch: &mut [i64], feature: usize) -> Result<Found> {
        self.ctx.check()?;
        let (bins, meaning) = (&self.binned.columns[feature], &self.binned.meanings[feature]);
        if let Some(sums) = self.sums {
            let stride = BINS * self.target.width();
            let sums = &sums[feature * stride..][..(meaning.n_bins() + 1) * self.target.width()];
            return Ok(find(self.target, (self.rules, self.total), (feature, meaning), sums));
        }
        let occurring = if self.rows.len() <= meaning.n_bins() {
            self.fill_few(scratch, bins)
        } else {
            self.fill(scratch, bins);
            occurring(self.target, &scratch[..(meaning.n_bins() + 1) * self.target.width()])
        };
        let found = self.search(feature, meaning, scratch, occurring.as_slice());
        let width = self.target.width();
        for bin in occurring.as_slice().iter().map(|bin| usize::from(*bin)) {
            scratch[bin * width..(bin + 1) * width].fill(0);
        }
        Ok(found)
    }

    fn search(&self, feature: usize, meaning: &Meaning, sums: &[i64], occurring: &[u8]) -> Found {
        search(self.target, (self.rules, self.total), (feature, meaning), sums, occurring)
    }

    /// Adds the rows to sums by bin.
    pub(super) fn fill(&self, sums: &mut [i64], bins: &[u8]) {
        for (row, added) in self.rows.iter().zip(self.added) {
            self.target.add(sums, usize::from(bins[*row as usize]), added);
        }
    }

    /// The same for fewer rows than bins: only the bins that they are in are looked at later.
    fn fill_few(&self, sums: &mut [i64], bins: &[u8]) -> Occurring {
        let mut occurring = [0u64; 4];
        for (row, added) in self.rows.iter().zip(self.added) {
            let bin = bins[*row as usize];
            occurring[usize::from(bin >> 6)] |= 1 << (bin & 63);
            self.target.add(sums, usize::from(bin), added);
        }
        Occurring::of_bits(occurring)
    }
}

/// The best split of a node, which has rules and sums in total, on a feature, from its sums by bin.
pub(super) fn find<T: Target>(target: &T, of: (&Rules, &[i64]), on: (usize, &Meaning), sums: &[i64]) -> Found {
    search(target, of, on, sums, occurring(target, sums).as_slice())
}

fn search<T: Target>(
    target: &T,
    (rules, total): (&Rules, &[i64]),
    (feature, meaning): (usize, &Meaning),
    sums: &[i64],
    occurring: &[u8],
) -> Found {
    let varies = occurring.len() > 1;
    let side = || target.side(rules, total, sums);
    Found { varies, test: varies.then(|| split::best(feature, meaning, occurring, &mut side())).flatten() }
}

fn occurring<T: Target>(target: &T, sums: &[i64]) -> Occurring {
    Occurring::of(sums.chunks_exact(target.width()).map(|sums| target.count(sums) > 0))
}
