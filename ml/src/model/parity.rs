//! The parity sample: table rows with the scores that they got when the model was packed.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;

use crate::{MlError, Result};

/// Rows that are kept of a sample: enough to notice another model, few enough to score at each load.
pub const MAX_PARITY_ROWS: usize = 256;

/// The column of the expected scores.
const SCORE: &str = "__score";

pub(super) fn write(rows: &RecordBatch, scores: &Float64Array) -> Result<Vec<u8>> {
    let score = Field::new(SCORE, DataType::Float64, true);
    let fields = rows.schema().fields().iter().cloned().chain([Arc::new(score)]).collect::<Vec<_>>();
    let columns = rows.columns().iter().cloned().chain([Arc::new(scores.clone()) as _]).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let mut writer = FileWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

pub(super) fn read(bytes: &[u8]) -> Result<(RecordBatch, Float64Array)> {
    let corrupt = |why: String| MlError::Corrupt { what: "the parity sample".to_owned(), why };
    let reader = FileReader::try_new(Cursor::new(bytes), None).map_err(|e| corrupt(e.to_string()))?;
    let schema = reader.schema();
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| corrupt(e.to_string()))?;
    let rows = concat_batches(&schema, &batches)?;
    let scores = rows.column_by_name(SCORE).and_then(|c| c.as_primitive_opt::<Float64Type>()).cloned();
    let scores = scores.ok_or_else(|| corrupt(format!("it has no column {SCORE:?}")))?;
    Ok((rows, scores))
}

/// Compares scores to the bit.
pub(super) fn check(expected: &Float64Array, got: &Float64Array) -> Result<()> {
    let bits = |scores: &Float64Array| scores.iter().map(|s| s.map(f64::to_bits)).collect::<Vec<_>>();
    let differs = bits(expected).into_iter().zip(bits(got)).position(|(expected, got)| expected != got);
    let row = match differs {
        None if expected.len() == got.len() => return Ok(()),
        None => expected.len().min(got.len()),
        Some(row) => row,
    };
    let show = |scores: &Float64Array| match scores.iter().nth(row).flatten() {
        Some(score) => format!("{score:?}"),
        None => "none".to_owned(),
    };
    Err(MlError::Corrupt {
        what: "the model".to_owned(),
        why: format!(
            "row {row} of its parity sample scores {} here and scored {} when it was packed; it was made by another \
             version or on another architecture: train it again",
            show(got),
            show(expected)
        ),
    })
}
