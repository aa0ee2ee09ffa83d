//! What a sink is told.

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use crate::error::{ConnectorError, Result};
use crate::files::partition::can_partition;

/// Raised when the form changes; processes of different versions refuse each other's plans.
const FORMAT_VERSION: u8 = 1;
/// A file is closed once it has grown to this: large enough to read in long strokes, small enough to
/// be read by several tasks.
const TARGET_FILE_BYTES: u64 = 256 << 20;

/// The format of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkFormat {
    /// Parquet with Arrow's types. Partition columns are in the directories' names alone.
    Parquet,
    /// Parquet with the types of a Delta table (see [`table_schema`](crate::delta::table_schema)).
    Delta,
    /// Comma-separated with a header line.
    Csv,
    /// One JSON object per line.
    JsonLines,
    /// An Arrow IPC file.
    ArrowIpc,
}

impl SinkFormat {
    /// The extension of its files, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet | Self::Delta => "parquet",
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
            Self::ArrowIpc => "arrow",
        }
    }

    pub(super) fn is_parquet(self) -> bool {
        matches!(self, Self::Parquet | Self::Delta)
    }
}

/// How Parquet and Arrow files are compressed; text is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// Snappy in Parquet, LZ4 in Arrow files.
    Fast,
    /// Zstandard at its first level.
    #[default]
    Zstd,
}

/// Where and how a sink writes. Travels in plans; holds no credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkSpec {
    /// The canonical URL of the directory that the files' paths are relative to.
    pub location: String,
    /// The files' format.
    pub format: SinkFormat,
    /// Columns whose values become directories, in order.
    #[serde(default)]
    pub partition_by: Vec<String>,
    /// The run, part of every file's name: letters, digits, `-` and `_`.
    pub run_id: String,
    /// How the files are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// A file that has grown to this many bytes is closed and another begun.
    pub target_file_bytes: u64,
    /// Write exactly one file, also when there are no rows; the input is gathered into one partition.
    #[serde(default)]
    pub single_file: bool,
}

impl SinkSpec {
    /// A sink with default compression and file size.
    pub fn new(location: impl Into<String>, format: SinkFormat, run_id: impl Into<String>) -> Self {
        Self {
            location: location.into(),
            format,
            partition_by: vec![],
            run_id: run_id.into(),
            compression: Compression::default(),
            target_file_bytes: TARGET_FILE_BYTES,
            single_file: false,
        }
    }

    /// The same, partitioned by `columns`.
    pub fn with_partition_by(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.partition_by = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The same, writing exactly one file.
    pub fn with_single_file(mut self) -> Self {
        self.single_file = true;
        self
    }

    /// As bytes, for a plan's codec.
    ///
    /// # Errors
    /// None that a caller can bring about.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![FORMAT_VERSION];
        serde_json::to_writer(&mut bytes, self)
            .map_err(|error| ConnectorError::internal(format!("encoding a sink: {error}")))?;
        Ok(bytes)
    }

    /// What [`SinkSpec::encode`] wrote.
    ///
    /// # Errors
    /// `InvalidInput` for bytes of another version or none of ours.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&FORMAT_VERSION, json)) => serde_json::from_slice(json)
                .map_err(|error| ConnectorError::invalid_because("an encoded sink cannot be read", error)),
            Some((version, _)) => Err(ConnectorError::invalid(format!(
                "an encoded sink: expected format {FORMAT_VERSION}, got {version}; run the same version of tidemill everywhere"
            ))),
            None => Err(ConnectorError::invalid("an encoded sink is empty")),
        }
    }

    /// Checks it against the rows' schema.
    ///
    /// # Errors
    /// `InvalidInput` naming the column or option that does not fit.
    pub(super) fn check(&self, schema: &Schema) -> Result<()> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.run_id.is_empty() || !self.run_id.chars().all(allowed) {
            return Err(ConnectorError::invalid(format!(
                "run id {:?}: expected letters, digits, - and _",
                self.run_id
            )));
        }
        if self.single_file && !self.partition_by.is_empty() {
            return Err(ConnectorError::invalid("a single file cannot be partitioned; leave out one of the two"));
        }
        for name in &self.partition_by {
            let field = schema
                .field_with_name(name)
                .map_err(|_| ConnectorError::invalid(format!("partition column {name:?} is not among the columns")))?;
            if !can_partition(field.data_type()) {
                return Err(ConnectorError::invalid(format!(
                    "column {name:?} of type {} cannot partition a table; expected a string, integer, boolean, date or timestamp",
                    field.data_type()
                )));
            }
        }
        if self.partition_by.len() >= schema.fields().len() {
            return Err(ConnectorError::invalid("a table needs a column that it is not partitioned by"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_spec_survives_the_wire(location in any::<String>(), columns in proptest::collection::vec(any::<String>(), 0..3), single in any::<bool>()) {
            let mut spec = SinkSpec::new(location, SinkFormat::Delta, "run-1").with_partition_by(columns);
            spec.single_file = single;
            prop_assert_eq!(SinkSpec::decode(&spec.encode().unwrap()).unwrap(), spec);
        }
    }
}
