//! What a search trains on when a stage encodes by the label.

use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, UInt32Type};
use arrow::ipc::reader::FileReader;
use datafusion::prelude::{ident, lit};
use serde_json::json;
use tidemill_connectors::stores::Location;
use tidemill_ml::estimator::{ParamGrid, ProblemType};
use tidemill_ml::eval::area_under_roc;
use tidemill_ml::pipeline::Pipeline;

use super::{FOLD_COLUMN, GridSearch, Label};
use crate::plan::train::{HELD_OUT, in_order};
use crate::{Session, SessionOptions};

/// 4,000 rows of 700 categories that say nothing of the label.
const NOISE: &str = "
    select id, fold_hash(id, 5) % arrow_cast(700, 'UInt64') as x, fold_hash(id, 6) % arrow_cast(2, 'UInt64') as y
    from (select cast(value as bigint) as id from generate_series(0, 3999))";

fn matrix(folder: &Path, name: &str) -> RecordBatch {
    let files = std::fs::read_dir(folder.join("scratch/matrices").join(name)).unwrap();
    let read = |path: PathBuf| FileReader::try_new(std::fs::File::open(path).unwrap(), None).unwrap();
    let batches: Vec<RecordBatch> = files.flat_map(|f| read(f.unwrap().path())).collect::<Result<_, _>>().unwrap();
    in_order(&batches, &["__key_0".to_owned()]).unwrap()
}

fn numbers(batch: &RecordBatch, column: &str) -> Vec<f64> {
    let column = cast(batch.column_by_name(column).unwrap(), &DataType::Float64).unwrap();
    column.as_primitive::<Float64Type>().values().to_vec()
}

/// The area under the curve of the encoded column, for the rows of these folds.
fn area(matrix: &RecordBatch, is_wanted: impl Fn(u32) -> bool) -> f64 {
    let folds = matrix.column_by_name(FOLD_COLUMN).unwrap().as_primitive::<UInt32Type>().values();
    let of = |column: &str| -> Vec<f64> {
        numbers(matrix, column).into_iter().zip(folds).filter(|(_, f)| is_wanted(**f)).map(|(v, _)| v).collect()
    };
    area_under_roc(&of("rate"), &of("__label")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_trained_on_out_of_fold_and_validated_as_scored() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = folder.path().display().to_string();
    let session = Session::open(SessionOptions { warehouse, ..SessionOptions::default() }).await.unwrap();
    let rows = session.sql(NOISE).await.unwrap();
    let plugins = session.plugins();
    let stages = json!([{"target_encoder": {
        "inputs": ["x"], "outputs": ["rate"], "label_col": "y", "handle_invalid": "keep", "cv": 5, "by": "id"
    }}]);
    let grid = ParamGrid::from_json(&json!({"logistic_regression": {"reg_param": [0.0]}})).unwrap();
    let search = GridSearch {
        pipeline: Pipeline::from_value(&stages, &plugins.stages).unwrap(),
        candidates: grid.candidates(ProblemType::Binary, |name| plugins.estimators.get(name)).unwrap(),
        key: vec!["id".to_owned()],
        label: Label::binary("y"),
        n_folds: 3,
        fold_by: "id".to_owned(),
        metric: "area_under_roc".parse().unwrap(),
        threshold: 0.5,
        halving: None,
        seed: 1,
    };
    let scratch = Location::parse(folder.path().join("scratch").to_str().unwrap()).unwrap();
    let (train, holdout) = (ident("id").lt(lit(3_000_i64)), ident("id").gt_eq(lit(3_000_i64)));
    let found = search.fit(&session, rows.clone(), train, holdout, &scratch).await.unwrap();
    assert_eq!(found.fit_passes, 1);

    for (name, validated) in [("fold-0", 0), ("fold-1", 1), ("all", HELD_OUT)] {
        let matrix = matrix(folder.path(), name);
        let (trained, other) = (area(&matrix, |f| f != validated), area(&matrix, |f| f == validated));
        // Without its own label a row of a small category sees a little more of the other label: below one half.
        assert!(trained > 0.4 && trained < 0.54, "{name}: {trained} of the rows to train on");
        assert!((other - 0.5).abs() < 0.06, "{name}: {other} of the others");
    }
    let all = matrix(folder.path(), "all");
    let scored = found.pipeline.transform(rows, &["id"]).unwrap().sort(vec![ident("id").sort(true, false)]).unwrap();
    let scored = scored.collect().await.unwrap();
    let scored = numbers(&concat_batches(&scored[0].schema(), &scored).unwrap(), "rate");
    let written = numbers(&all, "rate");
    assert_eq!(written[3_000..], scored[3_000..]);
    assert_ne!(written[..3_000], scored[..3_000]);
    assert!(area_under_roc(&scored[..3_000], &numbers(&all, "__label")[..3_000]).unwrap() > 0.7);
}
