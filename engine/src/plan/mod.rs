//! Plan nodes of our own: as-of joins, scoring, training and writing, each a logical node, an operator and its wire form.

pub mod asof;
pub mod predict;
pub mod score;
pub mod shards;
pub mod train;
pub mod write;
