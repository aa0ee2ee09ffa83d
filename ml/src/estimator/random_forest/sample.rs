//! Which rows a tree sees, and how often.

use std::ops::Range;

use crate::estimator::support::math::exp;
use crate::estimator::support::random::mix;

/// The most times a tree sees one row: at the highest rate, 1, the chance of more is below 2^-110.
pub(super) const MOST_COUNTS: usize = 31;
/// The purpose of the random numbers.
const ROWS: u64 = 1;

/// How the rows of a tree are drawn.
#[derive(Debug)]
pub(super) struct Sampler {
    /// A row is seen once more for each of these that its random number reaches.
    reaches: Vec<u64>,
}

impl Sampler {
    /// Poisson counts with replacement (as Spark draws them), else each row at most once.
    pub(super) fn new(bootstrap: bool, rate: f64) -> Self {
        let reaches = match (bootstrap, rate) {
            (true, rate) => poisson(rate),
            (false, rate) if rate < 1.0 => vec![at(1.0 - rate)],
            (false, _) => vec![0],
        };
        Self { reaches }
    }

    /// How often a tree sees each row, of those with these numbers.
    pub(super) fn counts(&self, seed: u64, rows: Range<u64>) -> Vec<u8> {
        let seed = mix(seed ^ mix(ROWS));
        let count = |row| {
            let random = mix(seed ^ row);
            self.reaches.iter().take_while(|reach| random >= **reach).count() as u8
        };
        rows.map(count).collect()
    }
}

/// The distribution function of Poisson counts at 0, 1 and so on.
fn poisson(mean: f64) -> Vec<u64> {
    let mut term = exp(-mean);
    let mut below = term;
    let mut reaches = Vec::new();
    while reaches.len() < MOST_COUNTS && below < 1.0 {
        reaches.push(at(below));
        term *= mean / reaches.len() as f64;
        below += term;
    }
    reaches
}

/// The 64 bits that stand for a number in 0..1.
fn at(share: f64) -> u64 {
    (share * (u64::MAX as f64)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_poisson_s() {
        for (rate, expected) in [(1.0, [0.3679, 0.3679, 0.1839, 0.0613]), (0.3, [0.7408, 0.2222, 0.0333, 0.0033])] {
            let counts = Sampler::new(true, rate).counts(5, 0..400_000);
            for (count, share) in expected.iter().enumerate() {
                let got = counts.iter().filter(|c| usize::from(**c) == count).count() as f64 / 400_000.0;
                assert!((got - share).abs() < 0.003, "{rate} {count}: {got}");
            }
        }
    }

    #[test]
    fn without_replacement_a_row_is_seen_once() {
        assert_eq!(Sampler::new(false, 1.0).counts(1, 0..3), [1, 1, 1]);
        let counts = Sampler::new(false, 0.25).counts(1, 0..100_000);
        assert!(counts.iter().all(|c| *c < 2));
        assert!((counts.iter().filter(|c| **c == 1).count() as f64 / 1e5 - 0.25).abs() < 0.01);
    }
}
