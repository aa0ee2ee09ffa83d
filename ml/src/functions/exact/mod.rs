//! Exact arithmetic over `f64`: sums without any rounding until the end.

mod covariances;
mod magnitude;
mod moments;
mod superaccumulator;
mod weighted;
mod window;

pub use covariances::ExactCovariances;
pub use moments::{ExactMoments, Moments};
pub use superaccumulator::Superaccumulator;
pub(crate) use superaccumulator::take;
pub(crate) use weighted::WeightedMoments;
