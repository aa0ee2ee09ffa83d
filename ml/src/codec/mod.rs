//! How fitted values are written down: the same bytes for equal values, and back without any loss.

pub mod exact;
mod json;
pub mod metrics;

pub use json::canonical_json;
