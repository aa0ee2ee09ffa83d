//! Object stores: one client per bucket and set of options in a process, found by URL.
//!
//! A [`Location`] is how the rest of the code names a place; [`Stores`] is how DataFusion finds its client.

mod credentials;
mod location;
mod options;
mod registry;
mod s3;

pub use location::Location;
pub use options::StoreOptions;
pub use registry::{Stores, runtime_env, runtime_env_builder};
