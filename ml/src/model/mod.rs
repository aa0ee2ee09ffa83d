//! Models: what is registered, and what is loaded to score.
//!
//! A [`ModelPackage`] is what training made: a fitted pipeline and a trained model with all that is known of them. Packed
//! it is files and a [`Manifest`]; loaded back, a [`ScoringModel`] that takes table rows and gives scores.

mod cache;
mod manifest;
mod output;
mod package;
mod parity;
mod scoring;

pub use cache::{MAX_CACHED_MODELS, ModelCache};
pub use manifest::{
    FeatureViewRef, FileEntry, MANIFEST_FORMAT_VERSION, Manifest, ModelVersion, Signature, SignatureColumn,
};
pub(crate) use output::largest;
pub use output::{Classes, ModelOutput};
pub use package::{ModelPackage, PackedModel};
pub(crate) use package::{check_file, unpack};
pub use parity::MAX_PARITY_ROWS;
pub use scoring::ScoringModel;
