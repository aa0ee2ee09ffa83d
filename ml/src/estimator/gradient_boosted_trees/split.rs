//! Finding the best split of a leaf on one feature.

use super::GradientBoostedTreesParams;
use super::histogram::{Histogram, Scale, Sums, count, minus, plus};
use crate::estimator::support::trees::{BinTest, Column, Meaning, insert};

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
    /// The best split of a leaf on a feature, or none that gains.
    pub(super) fn best(&self, feature: usize, column: &Column, bins: &Histogram, total: Sums) -> Option<Split> {
        let score = self.score(total, self.params.reg_lambda);
        let node = Node { feature, n_bins: column.n_bins, bins, total, score };
        match &column.meaning {
            Meaning::Number { .. } => self.best_threshold(node),
            Meaning::Category { .. } if column.n_bins <= ONE_AGAINST_REST => self.best_label(node),
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
