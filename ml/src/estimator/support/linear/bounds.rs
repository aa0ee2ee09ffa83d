//! Bounds on the coefficients and the intercept of raw columns, as the optimiser keeps them.
//!
//! A bound on a coefficient is one on its coordinate. The optimiser's intercept is that of centred numbers, and a bound
//! on the raw one is none on any coordinate: steps are then solved for with the raw intercept in its place. What is
//! between two points within bounds is within them, so that a shortened step is too.

use super::{Columns, Quadratic};

/// Bounds on the coefficients of raw columns, numbers and then indicators, and behind them on the intercept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawBounds {
    /// The least values; -inf where there is no bound.
    pub(crate) lower: Vec<f64>,
    /// The largest values, each at least its least one; inf where there is no bound.
    pub(crate) upper: Vec<f64>,
}

/// Bounds on the optimiser's coordinates.
#[derive(Debug)]
pub(crate) struct Bounds {
    lower: Vec<f64>,
    upper: Vec<f64>,
    /// What a coordinate of 1 takes off the optimiser's intercept to make the raw one, whose bounds the last ones are;
    /// none where it has none.
    shifts: Option<Vec<f64>>,
}

impl Bounds {
    /// The bounds of columns; coordinates that cannot be other than 0 have none but that.
    pub(crate) fn new(columns: &Columns, raw: &RawBounds) -> Self {
        let upper = at_most(columns, raw.upper.iter().copied());
        let lower: Vec<f64> = at_most(columns, raw.lower.iter().map(|b| -b)).into_iter().map(|b| -b).collect();
        let place = columns.intercept();
        let is_bounded = lower[place].is_finite() || upper[place].is_finite();
        let shifts = (is_bounded && columns.is_free(place)).then(|| columns.intercept_shifts());
        Self { lower, upper, shifts }
    }

    /// The least and the largest value of a coordinate.
    pub(crate) fn of(&self, coordinate: usize) -> (f64, f64) {
        (self.lower[coordinate], self.upper[coordinate])
    }

    /// Whether a point is within the bounds.
    pub(super) fn contain(&self, point: &[f64]) -> bool {
        let mut raw = point.to_vec();
        self.shift_intercept(&mut raw, -1.0);
        raw.iter().zip(self.lower.iter().zip(&self.upper)).all(|(v, (lower, upper))| lower <= v && v <= upper)
    }

    /// The minimum of a quadratic within the bounds, to where a sweep would lower the value by less than `tolerance`.
    pub(super) fn minimise(&self, quadratic: &Quadratic<'_>, tolerance: f64) -> Vec<f64> {
        let Some(shifts) = &self.shifts else { return quadratic.descend(tolerance) };
        let mut at = quadratic.at.to_vec();
        self.shift_intercept(&mut at, -1.0);
        let slope = quadratic.gradient[shifts.len()];
        let gradient: Vec<f64> =
            quadratic.gradient.iter().zip(all(shifts)).map(|(g, shift)| g + shift * slope).collect();
        let hessian = of_raw_intercept(quadratic.hessian, shifts);
        let raw = Quadratic { hessian: &hessian, gradient: &gradient, at: &at, ..*quadratic };
        let mut minimum = raw.descend(tolerance);
        self.shift_intercept(&mut minimum, 1.0);
        minimum
    }

    /// Makes the optimiser's intercept of the raw one (`sign` 1), or the raw one of it (-1), where that has bounds.
    fn shift_intercept(&self, point: &mut [f64], sign: f64) {
        if let (Some(shifts), Some((intercept, coefficients))) = (&self.shifts, point.split_last_mut()) {
            *intercept += sign * shifts.iter().zip(coefficients).map(|(shift, b)| shift * *b).sum::<f64>();
        }
    }
}

/// The largest coordinates whose raw coefficients are at most these.
fn at_most(columns: &Columns, bounds: impl Iterator<Item = f64>) -> Vec<f64> {
    let coordinate = |(j, bound): (usize, f64)| match columns.deviation.get(j) {
        _ if !columns.is_free(j) => 0.0,
        Some(deviation) if bound * deviation / deviation > bound => (bound * deviation).next_down(),
        Some(deviation) => bound * deviation,
        None => bound,
    };
    bounds.enumerate().map(coordinate).collect()
}

/// The shifts, and that of the intercept.
fn all(shifts: &[f64]) -> impl Iterator<Item = f64> {
    shifts.iter().copied().chain([0.0])
}

/// A Hessian by coefficients and the raw intercept, from one by them and the optimiser's.
fn of_raw_intercept(hessian: &[f64], shifts: &[f64]) -> Vec<f64> {
    let (d, last) = (shifts.len() + 1, shifts.len());
    let mut raw = hessian.to_vec();
    for (i, shift) in all(shifts).enumerate() {
        for (j, other) in all(shifts).enumerate() {
            raw[i * d + j] += shift * hessian[last * d + j]
                + other * hessian[i * d + last]
                + shift * other * hessian[last * d + last];
        }
    }
    raw
}
