//! Plan nodes of our own: scoring, training and writing, each a logical node, an operator and its wire form.

pub mod predict;
pub mod score;
pub mod train;
pub mod write;
