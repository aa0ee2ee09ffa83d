//! How our plan nodes and tables travel: codecs that write a tag byte and delegate what is not ours to Ballista's.

mod logical;
mod physical;
pub(crate) mod wire;

pub use logical::TidemillLogicalCodec;
pub use physical::TidemillPhysicalCodec;
