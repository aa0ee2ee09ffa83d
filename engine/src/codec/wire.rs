//! The bytes of a node: JSON, because plans are small and a person can read them.

use datafusion::common::{Result, internal_datafusion_err};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| internal_datafusion_err!("a plan node does not encode: {e}"))
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        internal_datafusion_err!(
            "a plan node does not decode: {e}; client, scheduler and executors must be one version"
        )
    })
}
