//! One law for every stage: what becomes of a row does not depend on the rows beside it, nor on what evaluates it. A
//! table, a micro-batch and a request give the same bits, and the same rows are dropped or refused.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::Value;

use super::cases::{cases, features, fitted, frame, row, rows_to_fit, table, transformed};
use super::{CompiledPipeline, PipelineModel};
use crate::Result;

proptest! {
    // Each case tries every stage, on 32 rows: few cases, and as few to make a failing one smaller.
    #![proptest_config(ProptestConfig { max_shrink_iters: 4, ..ProptestConfig::with_cases(3) })]

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it(
        seen in rows_to_fit(14),
        rows in vec(row(), 12),
        sizes in vec(1usize..6, 1..4),
    ) {
        let (seen, rows) = (table(&seen), table(&rows));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (name, stages) in cases() {
            let model = runtime.block_on(fitted(&stages, &seen));
            let model = model.map_err(|e| TestCaseError::fail(format!("{name} is not fitted: {e}")))?;
            for rows in [&rows, &seen] {
                let difference = runtime.block_on(difference(&model, rows, &sizes));
                prop_assert!(difference.is_none(), "{name}: {}", difference.unwrap_or_default());
            }
        }
    }
}

/// Where the ways to evaluate a pipeline differ, if they do.
async fn difference(model: &PipelineModel, rows: &RecordBatch, sizes: &[usize]) -> Option<String> {
    let compiled = model.compile(&rows.schema()).unwrap();
    let one_by_one: Vec<_> = (0..rows.num_rows()).map(|row| evaluated(model, &compiled, &rows.slice(row, 1))).collect();
    if one_by_one.iter().any(Result::is_err) {
        for sizes in [&[rows.num_rows()], sizes, &[1]] {
            if let Ok(got) = transformed(model, frame(rows, sizes)).await {
                return Some(format!("the plan over batches of {sizes:?} refuses no row: {got:?}"));
            }
        }
    }
    let (rows, expected) = accepted(rows, one_by_one)?;
    if evaluated(model, &compiled, &rows).ok().as_ref() != Some(&expected) {
        return Some(format!("all at once, compiled: {:?}, expected {expected:?}", evaluated(model, &compiled, &rows)));
    }
    for sizes in [&[rows.num_rows()], sizes, &[1]] {
        let got = transformed(model, frame(&rows, sizes)).await;
        if got.as_ref().ok() != Some(&expected) {
            return Some(format!("the plan over batches of {sizes:?}: {got:?}, expected {expected:?}"));
        }
    }
    None
}

fn evaluated(model: &PipelineModel, compiled: &CompiledPipeline, rows: &RecordBatch) -> Result<Vec<Vec<Value>>> {
    let (batch, kept) = compiled.columns(rows)?;
    assert!(kept.is_none_or(|kept| kept.len() == batch.num_rows()));
    Ok(features(model, &batch))
}

/// The rows that were not refused one by one, and their features; none when there are no such rows.
fn accepted(rows: &RecordBatch, one_by_one: Vec<Result<Vec<Vec<Value>>>>) -> Option<(RecordBatch, Vec<Vec<Value>>)> {
    let accepted =
        one_by_one.into_iter().enumerate().filter_map(|(row, found)| Some((rows.slice(row, 1), found.ok()?)));
    let (rows, found): (Vec<RecordBatch>, Vec<_>) = accepted.unzip();
    let rows = concat_batches(&rows.first()?.schema(), &rows).unwrap();
    Some((rows, found.concat()))
}
