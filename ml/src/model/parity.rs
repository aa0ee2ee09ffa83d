//! The parity sample: table rows with what the model gave for them when it was packed.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::{MlError, Result};

/// Rows that are kept of a sample: enough to notice another model, few enough to score at each load.
pub const MAX_PARITY_ROWS: usize = 256;

/// The column of the expected scores.
const SCORE: &str = "__score";

pub(super) fn write(rows: &RecordBatch, scores: ArrayRef) -> Result<Vec<u8>> {
    let score = Field::new(SCORE, scores.data_type().clone(), true);
    let fields = rows.schema().fields().iter().cloned().chain([Arc::new(score)]).collect::<Vec<_>>();
    let columns = rows.columns().iter().cloned().chain([scores]).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

pub(super) fn read(bytes: &[u8]) -> Result<(RecordBatch, ArrayRef)> {
    let corrupt = |why: String| MlError::Corrupt { what: "the parity sample".to_owned(), why };
    let reader = FileReader::try_new(Cursor::new(bytes), None).map_err(|e| corrupt(e.to_string()))?;
    let schema = reader.schema();
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| corrupt(e.to_string()))?;
    let rows = concat_batches(&schema, &batches)?;
    let scores = rows.column_by_name(SCORE).map(Arc::clone);
    let scores = scores.ok_or_else(|| corrupt(format!("it has no column {SCORE:?}")))?;
    Ok((rows, scores))
}

/// Compares scores to the bit.
pub(super) fn check(expected: &ArrayRef, got: &ArrayRef) -> Result<()> {
    // Equality of Arrow's buffers is that of their bits.
    let differs = |row: usize| expected.slice(row, 1).to_data() != got.slice(row, 1).to_data();
    let shared = expected.len().min(got.len());
    let row = match (0..shared).find(|row| differs(*row)) {
        None if expected.len() == got.len() => return Ok(()),
        None => shared,
        Some(row) => row,
    };
    let show = |scores: &ArrayRef| -> Result<String> {
        if row >= scores.len() || scores.is_null(row) {
            return Ok("none".to_owned());
        }
        let options = FormatOptions::default();
        Ok(ArrayFormatter::try_new(scores.as_ref(), &options)?.value(row).to_string())
    };
    Err(MlError::Corrupt {
        what: "the model".to_owned(),
        why: format!(
            "row {row} of its parity sample scores {} here and scored {} when it was packed; it was made by another \
             version or on another architecture: train it again",
            show(got)?,
            show(expected)?
        ),
    })
}
