//! What the estimators share: parameter reading, arithmetic that is the same on every machine, chunked parallelism.

pub(crate) mod chunks;
pub(crate) mod linear;
pub(crate) mod math;
pub(crate) mod options;
pub(crate) mod random;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod training;
pub(crate) mod trees;
pub(crate) mod vectors;
