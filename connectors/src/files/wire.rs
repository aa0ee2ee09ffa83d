//! The form in which a [`FileTable`] travels inside plans: self-contained, versioned, no IO to decode.
//!
//! One byte of format version, the length of the schema, the schema as an Arrow IPC stream, and JSON
//! for the rest. Holds references to credentials at most, as [`StoreOptions`] does.

use std::io::Cursor;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::catalog::TableProvider;
use serde::{Deserialize, Serialize};

use super::table::{FileTable, PinnedFile, TableFormat};
use crate::error::{ConnectorError, Result};
use crate::stores::{Location, StoreOptions};

/// Raised when the form changes; processes of different versions refuse each other's tables.
const FORMAT_VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Wire {
    location: String,
    options: StoreOptions,
    format: TableFormat,
    partition_columns: Vec<String>,
    files: Vec<PinnedFile>,
}

impl FileTable {
    /// The table as bytes. Paths in it are absolute.
    ///
    /// # Errors
    /// `Internal` when the schema cannot be written as Arrow IPC.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let schema = encode_schema(&self.schema())?;
        let wire = Wire {
            location: self.location().to_string(),
            options: self.location().options().clone(),
            format: self.format().clone(),
            partition_columns: self.partition_columns().to_vec(),
            files: self.files().to_vec(),
        };
        let length = u32::try_from(schema.len()).map_err(|_| ConnectorError::internal("a schema of over 4 GiB"))?;
        let mut bytes = vec![FORMAT_VERSION];
        bytes.extend(length.to_le_bytes());
        bytes.extend(schema);
        serde_json::to_writer(&mut bytes, &wire)
            .map_err(|error| ConnectorError::internal(format!("encoding a table: {error}")))?;
        Ok(bytes)
    }

    /// The table that [`FileTable::encode`] wrote.
    ///
    /// # Errors
    /// `InvalidInput` for bytes of another version or none of ours.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (version, rest) = bytes.split_first().ok_or_else(|| malformed("it is empty"))?;
        if *version != FORMAT_VERSION {
            return Err(malformed(&format!(
                "expected format {FORMAT_VERSION}, got {version}; run the same version of tidemill everywhere"
            )));
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| malformed("it is cut short"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (schema, json) = rest.split_at_checked(length).ok_or_else(|| malformed("it is cut short"))?;
        let wire: Wire = serde_json::from_slice(json).map_err(|error| malformed(&error.to_string()))?;
        Self::try_new(
            Location::parse_with(&wire.location, wire.options)?,
            wire.format,
            decode_schema(schema)?,
            wire.partition_columns,
            wire.files,
        )
    }
}

fn encode_schema(schema: &SchemaRef) -> Result<Vec<u8>> {
    let broken = |error| ConnectorError::internal(format!("encoding a schema: {error}"));
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(broken)?;
    writer.finish().map_err(broken)?;
    writer.into_inner().map_err(broken)
}

fn decode_schema(bytes: &[u8]) -> Result<SchemaRef> {
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| malformed(&error.to_string()))?;
    Ok(Arc::clone(&reader.schema()))
}

fn malformed(why: &str) -> ConnectorError {
    ConnectorError::invalid(format!("an encoded table cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;

    fn table(paths: Vec<String>, rows: Option<u64>) -> FileTable {
        let schema = Arc::new(Schema::new(vec![
            Field::new("ds", DataType::Date32, true),
            Field::new("x", DataType::Float64, false),
        ]));
        let files = paths
            .into_iter()
            .map(|path| PinnedFile {
                path,
                size: 7,
                last_modified_ms: -1,
                e_tag: Some("\"tag\"".into()),
                partition_values: vec![None],
                num_rows: rows,
                stats: None,
            })
            .collect();
        let location = Location::parse("s3://b/t")
            .unwrap()
            .with_options(StoreOptions { credentials: Some("env:LAKE".into()), ..StoreOptions::default() });
        FileTable::try_new(location, TableFormat::Delta { version: 3 }, schema, vec!["ds".into()], files).unwrap()
    }

    proptest! {
        #[test]
        fn a_table_survives_the_wire(paths in proptest::collection::vec(any::<String>(), 0..4), rows in any::<Option<u64>>()) {
            let sent = table(paths, rows);
            let got = FileTable::decode(&sent.encode().unwrap()).unwrap();
            prop_assert_eq!(got.files(), sent.files());
            prop_assert_eq!(got.schema(), sent.schema());
            prop_assert_eq!(got.location(), sent.location());
            prop_assert_eq!(got.format(), sent.format());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(FileTable::decode(&bytes).is_err());
        }
    }

    #[test]
    fn another_version_is_refused_by_number() {
        let mut bytes = table(vec![], None).encode().unwrap();
        bytes[0] = 9;
        let error = FileTable::decode(&bytes).unwrap_err();
        assert!(error.to_string().contains("got 9"), "{error}");
    }
}
