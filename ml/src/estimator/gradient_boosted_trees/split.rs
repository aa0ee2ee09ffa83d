//! Finding the best split of a leaf, and which leaf is split next.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::histogram::{self, Histogram, Scale, Sums, count, minus, plus};
use super::{GradientBoostedTreesParams, Growth};
use crate::estimator::support::trees::{BinTest, Meaning, insert};

/// The least sum of Hessians of a child: below it its value is noise.
const LEAST_HESSIAN: f64 = 1e-3;
/// Categories with at most this many labels are split one against the rest.
const ONE_AGAINST_REST: usize = 4;
/// Added to the Hessian when labels are put in order, so that rare ones stay in the middle.
const LABEL_SMOOTHING: f64 = 10.0;
/// Labels with fewer rows in the leaf stay on the right.
const LEAST_LABEL_ROWS: usize = 10;
/// The further L2 penalty of a split on a subset of many labels: there are many subsets to overfit with.
const SUBSET_L2: f64 = 10.0;
/// The most labels on the left.
const MOST_LABELS_LEFT: usize = 32;

/// The fewest features that a piece of work finds splits of.
const FEATURES_PER_SEARCH: usize = 4;

/// The best split of a leaf.
#[derive(Debug, Clone)]
pub(super) struct Split {
    pub(super) test: BinTest,
    pub(super) left: Sums,
    pub(super) right: Sums,
    /// The L2 penalty of the children's values.
    pub(super) l2: f64,
}

/// What a search works with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'a> {
    pub(super) params: &'a GradientBoostedTreesParams,
    pub(super) scale: Scale,
}

/// A leaf that can be split.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    /// Its place among the leaves.
    pub(super) at: usize,
    pub(super) depth: usize,
    gain: f64,
}

impl Open {
    /// A leaf with a best split; none without one.
    pub(super) fn new(at: usize, depth: usize, best: Option<&Split>) -> Option<Self> {
        Some(Self { at, depth, gain: best?.test.gain })
    }
}

impl Growth {
    /// The order in which leaves are split, the first of equals first.
    pub(super) fn compare(self, a: &Open, b: &Open) -> Ordering {
        let order = match self {
            Self::LeafWise => b.gain.total_cmp(&a.gain),
            Self::DepthWise => a.depth.cmp(&b.depth),
        };
        order.then(a.at.cmp(&b.at))
    }
}

/// One child of a leaf that is split.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// By feature.
    pub(super) histograms: &'a mut [Histogram],
    pub(super) sums: Sums,
    /// Whether its best split is looked for.
    pub(super) may_split: bool,
}

/// A leaf of a feature: its sums by bin and in total.
#[derive(Clone, Copy)]
struct Node<'a> {
    feature: usize,
    n_bins: usize,
    bins: &'a Histogram,
    total: Sums,
    /// The score of the leaf without a split.
    score: f64,
}

impl Search<'_> {
    /// The value of a leaf: a Newton step.
    pub(super) fn value(&self, sums: Sums, l2: f64) -> f64 {
        let hessian = self.scale.hessian(sums) + l2;
        if hessian > 0.0 { -self.params.step_size * self.scale.gradient(sums) / hessian } else { 0.0 }
    }

    /// The best split of a root whose histograms, by feature, `others` are added to.
    pub(super) fn root(
        &self,
        meanings: &[Meaning],
        features: &[usize],
        histograms: &mut [Histogram],
        others: &[Vec<Histogram>],
        total: Sums,
    ) -> Option<Split> {
        let each = |(i, (&feature, histogram)): (usize, (&usize, &mut Histogram))| {
            let used = ..histogram::n_used(&meanings[feature]);
            others.iter().for_each(|other| histogram::merge(&mut histogram[used], &other[i][used]));
            self.best(feature, &meanings[feature], histogram, total)
        };
        let by_feature = features.par_iter().zip(histograms).enumerate().with_min_len(FEATURES_PER_SEARCH);
        best_split(by_feature.map(each).collect())
    }

    /// The best splits of both children of a leaf: `others` are added to the histograms of the smaller one, which are then
    /// taken off those of the larger one, until here the leaf's.
    pub(super) fn children(
        &self,
        meanings: &[Meaning],
        features: &[usize],
        small: Part<'_>,
        others: &[Vec<Histogram>],
        large: Part<'_>,
    ) -> (Option<Split>, Option<Split>) {
        let each = |(i, ((&feature, of_small), of_large)): (usize, ((&usize, &mut Histogram), &mut Histogram))| {
            let meaning = &meanings[feature];
            let used = ..histogram::n_used(meaning);
            others.iter().for_each(|other| histogram::merge(&mut of_small[used], &other[i][used]));
            histogram::subtract(&mut of_large[used], &of_small[used]);
            (
                small.may_split.then(|| self.best(feature, meaning, of_small, small.sums)).flatten(),
                large.may_split.then(|| self.best(feature, meaning, of_large, large.sums)).flatten(),
            )
        };
        let by_feature = features.par_iter().zip(small.histograms).zip(large.histograms).enumerate();
        let (of_small, of_large) = by_feature.with_min_len(FEATURES_PER_SEARCH).map(each).unzip();
        (best_split(of_small), best_split(of_large))
    }

    /// The best split of a leaf on a feature, or none that gains.
    fn best(&self, feature: usize, meaning: &Meaning, bins: &Histogram, total: Sums) -> Option<Split> {
        let score = self.score(total, self.params.reg_lambda);
        let node = Node { feature, n_bins: meaning.n_bins(), bins, total, score };
        match meaning {
            Meaning::Number { .. } => self.best_threshold(node),
            Meaning::Category { .. } if meaning.n_bins() <= ONE_AGAINST_REST => self.best_label(node),
            Meaning::Category { .. } => self.best_subset(node),
        }
    }

    fn best_threshold(&self, node: Node<'_>) -> Option<Split> {
        let missing = node.bins[node.n_bins];
        let has_missing = count(missing) > 0;
        let mut best: Option<(f64, usize, bool)> = None;
        let mut below = [0, 0];
        for bin in 0..node.n_bins {
            // After a bin without rows all splits are as after the one before.
            if count(node.bins[bin]) == 0 && bin > 0 {
                continue;
            }
            below = plus(below, node.bins[bin]);
            // Without missing values the last bin leaves nothing on the right; with them it parts them off.
            for missing_left in [false, true] {
                if missing_left && !has_missing {
                    continue;
                }
                let left = if missing_left { plus(below, missing) } else { below };
                if let Some(gain) = self.gain(node, left, self.params.reg_lambda)
                    && best.is_none_or(|(b, ..)| gain > b)
                {
                    best = Some((gain, bin, missing_left));
                }
            }
        }
        best.map(|(gain, bin, missing_left)| self.threshold_split(node, gain, bin, has_missing.then_some(missing_left)))
    }

    fn threshold_split(&self, node: Node<'_>, gain: f64, bin: usize, missing_left: Option<bool>) -> Split {
        let below = node.bins[..=bin].iter().fold([0, 0], |a, b| plus(a, *b));
        let left = if missing_left == Some(true) { plus(below, node.bins[node.n_bins]) } else { below };
        let right = minus(node.total, left);
        let missing_left = missing_left.unwrap_or(count(left) >= count(right));
        let mut left_bins = [0; 4];
        (0..=bin).for_each(|b| insert(&mut left_bins, b));
        if missing_left {
            insert(&mut left_bins, node.n_bins);
        }
        let test = BinTest { feature: node.feature, gain, left_bins, last_left_bin: bin, missing_left };
        Split { test, left, right, l2: self.params.reg_lambda }
    }

    fn best_label(&self, node: Node<'_>) -> Option<Split> {
        let l2 = self.params.reg_lambda;
        let gains = (0..node.n_bins).filter_map(|bin| Some((self.gain(node, node.bins[bin], l2)?, bin)));
        let (gain, bin) = gains.reduce(|a, b| if b.0 > a.0 { b } else { a })?;
        Some(self.label_split(node, gain, &[bin], l2))
    }

    fn best_subset(&self, node: Node<'_>) -> Option<Split> {
        let l2 = self.params.reg_lambda + SUBSET_L2;
        let order = self.ordered_labels(node);
        let most = MOST_LABELS_LEFT.min(order.len().div_ceil(2));
        let mut best: Option<(f64, bool, usize)> = None;
        for from_top in [false, true] {
            let mut left = [0, 0];
            for taken in 0..most {
                let bin = if from_top { order[order.len() - 1 - taken] } else { order[taken] };
                left = plus(left, node.bins[bin]);
                if let Some(gain) = self.gain(node, left, l2)
                    && best.is_none_or(|(b, ..)| gain > b)
                {
                    best = Some((gain, from_top, taken + 1));
                }
            }
        }
        let (gain, from_top, taken) = best?;
        let labels = if from_top { &order[order.len() - taken..] } else { &order[..taken] };
        Some(self.label_split(node, gain, labels, l2))
    }

    /// The bins of labels with enough rows, by their smoothed gradient ratio.
    fn ordered_labels(&self, node: Node<'_>) -> Vec<usize> {
        let ratio =
            |bin: usize| self.scale.gradient(node.bins[bin]) / (self.scale.hessian(node.bins[bin]) + LABEL_SMOOTHING);
        let mut order: Vec<(f64, usize)> = (0..node.n_bins)
            .filter(|&bin| count(node.bins[bin]) >= LEAST_LABEL_ROWS)
            .map(|bin| (ratio(bin), bin))
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        order.into_iter().map(|(_, bin)| bin).collect()
    }

    fn label_split(&self, node: Node<'_>, gain: f64, labels: &[usize], l2: f64) -> Split {
        let left = labels.iter().fold([0, 0], |a, &bin| plus(a, node.bins[bin]));
        let mut left_bins = [0; 4];
        labels.iter().for_each(|&bin| insert(&mut left_bins, bin));
        let test = BinTest { feature: node.feature, gain, left_bins, last_left_bin: 0, missing_left: false };
        Split { test, left, right: minus(node.total, left), l2 }
    }

    /// How much a split lowers the loss (times two), if both sides are large enough and it does.
    #[inline]
    fn gain(&self, node: Node<'_>, left: Sums, l2: f64) -> Option<f64> {
        let least = self.params.min_instances_per_node;
        let n_left = count(left);
        if n_left < least || count(node.total) - n_left < least {
            return None;
        }
        let right = minus(node.total, left);
        if self.scale.hessian(left) < LEAST_HESSIAN || self.scale.hessian(right) < LEAST_HESSIAN {
            return None;
        }
        let gain = self.score(left, l2) + self.score(right, l2) - node.score;
        (gain > 0.0).then_some(gain)
    }

    #[inline]
    fn score(&self, sums: Sums, l2: f64) -> f64 {
        let gradient = self.scale.gradient(sums);
        gradient * gradient / (self.scale.hessian(sums) + l2)
    }
}

/// The split that gains most, the first feature's of equals.
fn best_split(found: Vec<Option<Split>>) -> Option<Split> {
    found.into_iter().flatten().reduce(|a, b| if b.test.gain > a.test.gain { b } else { a })
}
