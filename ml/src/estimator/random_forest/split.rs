//! Finding the best split of a node on one feature.

use super::side::Side;
use crate::estimator::support::trees::{BinSet, BinTest, Meaning, insert};

/// A cut in an order of bins.
#[derive(Debug, Clone, Copy)]
struct Cut {
    gain: f64,
    /// How many bins of the order are on the left.
    taken: usize,
    pass: Pass,
    /// Whether the left side has at least as many rows as the right.
    is_left_larger: bool,
}

/// How the bins of an order are added to the left side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// From the first, without what is missing.
    Forward,
    /// From the last, without what is missing.
    Backward,
    /// From the first, after what is missing.
    AfterMissing,
}

/// The best split of a node on a feature whose bins `occurring` have rows, ascending; none that gains enough.
pub(super) fn best(feature: usize, meaning: &Meaning, occurring: &[u8], side: &mut impl Side) -> Option<BinTest> {
    let (bins, has_missing) = match occurring.split_last() {
        Some((last, rest)) if usize::from(*last) == meaning.n_bins() => (rest, true),
        _ => (occurring, false),
    };
    match meaning {
        Meaning::Number { .. } => {
            let passes: &[Pass] = if has_missing { &[Pass::Forward, Pass::AfterMissing] } else { &[Pass::Forward] };
            let cut = best_cut(bins, meaning.n_bins(), passes, side)?;
            Some(threshold_test(feature, meaning.n_bins(), bins, has_missing, cut, side.weighted(cut.gain)?))
        }
        Meaning::Category { .. } => {
            // Missing and rare labels stay on the right, so with them both ends of the order are tried for the left.
            let passes: &[Pass] = if has_missing { &[Pass::Forward, Pass::Backward] } else { &[Pass::Forward] };
            let mut bins = bins.to_vec();
            side.order(&mut bins);
            let cut = best_cut(&bins, meaning.n_bins(), passes, side)?;
            Some(label_test(feature, &bins, cut, side.weighted(cut.gain)?))
        }
    }
}

/// The cut that gains most, the first of equals.
fn best_cut(bins: &[u8], missing: usize, passes: &[Pass], side: &mut impl Side) -> Option<Cut> {
    let mut best: Option<Cut> = None;
    for &pass in passes {
        side.clear();
        if pass == Pass::AfterMissing {
            side.add(missing);
        }
        for taken in 1..=bins.len() {
            let next = if pass == Pass::Backward { bins.len() - taken } else { taken - 1 };
            side.add(usize::from(bins[next]));
            if let Some(gain) = side.gain()
                && best.is_none_or(|best| gain > best.gain)
            {
                let (left, right) = side.counts();
                best = Some(Cut { gain, taken, pass, is_left_larger: left >= right });
            }
        }
    }
    best
}

/// The test of a cut between numbers, halfway through the bins that the node has no rows in.
fn threshold_test(feature: usize, n_bins: usize, bins: &[u8], has_missing: bool, cut: Cut, gain: f64) -> BinTest {
    let last = usize::from(bins[cut.taken - 1]);
    let last_left_bin = match bins.get(cut.taken) {
        Some(next) => (last + usize::from(*next)) / 2,
        // Only what is missing is on the right.
        None => n_bins - 1,
    };
    let missing_left = if has_missing { cut.pass == Pass::AfterMissing } else { cut.is_left_larger };
    let mut left_bins = BinSet::default();
    (0..=last_left_bin).for_each(|bin| insert(&mut left_bins, bin));
    if missing_left {
        insert(&mut left_bins, n_bins);
    }
    BinTest { feature, gain, left_bins, last_left_bin, missing_left }
}

/// The test of a cut in the order of labels.
fn label_test(feature: usize, bins: &[u8], cut: Cut, gain: f64) -> BinTest {
    let left = if cut.pass == Pass::Backward { &bins[bins.len() - cut.taken..] } else { &bins[..cut.taken] };
    let mut left_bins = BinSet::default();
    left.iter().for_each(|bin| insert(&mut left_bins, usize::from(*bin)));
    BinTest { feature, gain, left_bins, last_left_bin: 0, missing_left: false }
}
