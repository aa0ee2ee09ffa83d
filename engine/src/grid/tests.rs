//! What a search trains on: each fold with the pipeline of its own training rows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{cast as cast_array, concat_batches};
use arrow::datatypes::{DataType, Float64Type, UInt32Type};
use arrow::ipc::reader::FileReader;
use datafusion::logical_expr::{Expr, cast};
use datafusion::prelude::{ident, lit};
use serde_json::{Value, json};
use tidemill_connectors::stores::Location;
use tidemill_ml::MlError;
use tidemill_ml::estimator::{
    Artifacts, Candidate, Estimator, FitContext, LogisticRegression, Model, ParamGrid, Params, ProblemType,
};
use tidemill_ml::eval::area_under_roc;
use tidemill_ml::matrix::{Feature, Matrix};
use tidemill_ml::pipeline::Pipeline;

use super::{
    FOLD_COLUMN, FoldKind, Folds, Gap, GridSearch, Halving, Label, Parallel, ROWS_PER_SHARD, Resource, SearchResult,
};
use crate::plan::train::{HELD_OUT, in_order};
use crate::{Plugins, Session, SessionOptions};

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
    let column = cast_array(batch.column_by_name(column).unwrap(), &DataType::Float64).unwrap();
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

async fn session(folder: &Path) -> Session {
    let warehouse = folder.display().to_string();
    Session::open(SessionOptions { warehouse, ..SessionOptions::default() }).await.unwrap()
}

fn search(session: &Session, stages: &Value, folds: Folds) -> GridSearch {
    let plugins = session.plugins();
    let grid = ParamGrid::from_json(&json!({"logistic_regression": {"reg_param": [0.0]}})).unwrap();
    GridSearch {
        pipeline: Pipeline::from_value(stages, &plugins.stages).unwrap(),
        candidates: grid.candidates(ProblemType::Binary, |name| plugins.estimators.get(name)).unwrap(),
        key: vec!["id".to_owned()],
        label: Label::binary("y"),
        folds,
        metric: "area_under_roc".parse().unwrap(),
        threshold: 0.5,
        permutation_importance: false,
        halving: None,
        parallel: Parallel::Candidates,
        rows_per_shard: ROWS_PER_SHARD,
        seed: 1,
        keep_at: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fold_has_the_pipeline_of_its_own_training_rows() {
    let stages = json!([{"standard_scaler": {"inputs": ["x"], "with_mean": true}}]);
    let kinds = [
        Folds::hash(3, "id"),
        Folds::stratified(3, "id"),
        Folds::time(3, "id", None),
        Folds::time(3, "id", Some(Gap::Number(100.0))),
        Folds::split("id", 0.25),
    ];
    for folds in kinds {
        let folder = tempfile::tempdir().unwrap();
        let session = session(folder.path()).await;
        // Values that grow with time: any row of another fold moves the mean.
        let rows = session.sql(NOISE).await.unwrap().with_column("x", number(ident("id"))).unwrap();
        let scratch = Location::parse(folder.path().join("scratch").to_str().unwrap()).unwrap();
        let (train, holdout) = (ident("id").lt(lit(3_000_i64)), ident("id").gt_eq(lit(3_000_i64)));
        search(&session, &stages, folds.clone()).fit(&session, rows, train, holdout, &scratch).await.unwrap();
        for fold in folds.numbers() {
            let matrix = matrix(folder.path(), &format!("fold-{fold}"));
            let folds_of_rows = matrix.column_by_name(FOLD_COLUMN).unwrap().as_primitive::<UInt32Type>().values();
            let rows: Vec<(f64, f64, u32)> = numbers(&matrix, "__key_0")
                .into_iter()
                .zip(numbers(&matrix, "x"))
                .zip(folds_of_rows)
                .map(|((id, x), of_row)| (id, x, *of_row))
                .collect();
            let trained: Vec<f64> = rows.iter().filter(|(.., f)| *f != fold).map(|(_, x, _)| *x).collect();
            let mean = trained.iter().sum::<f64>() / trained.len() as f64;
            let squares = trained.iter().map(|x| x * x).sum::<f64>() / (trained.len() - 1) as f64;
            assert!(mean.abs() < 1e-9 && (squares - 1.0).abs() < 1e-9, "{folds}: {mean}, {squares}");
            let ids = |validated: bool| rows.iter().filter(move |r| (r.2 == fold) == validated).map(|r| r.0);
            if let FoldKind::Time { gap } = &folds.kind {
                let distance = ids(true).fold(f64::INFINITY, f64::min) - ids(false).fold(0.0, f64::max);
                assert_eq!(distance, if gap.is_some() { 101.0 } else { 1.0 }, "{folds}");
            }
            assert!(ids(false).chain(ids(true)).all(|id| id < 3_000.0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_without_a_class_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    let rows = session.sql(NOISE).await.unwrap();
    let scratch = Location::parse(folder.path().join("scratch").to_str().unwrap()).unwrap();
    let stages = json!([{"standard_scaler": {"inputs": ["id"]}}]);
    let late = number(ident("id").gt_eq(lit(2_000_i64)));
    let rows = rows.with_column("y", late).unwrap();
    for (folds, says) in [
        (Folds::hash(2, "y2"), ["fold 0 (2 folds) would be trained on no row", "kind: stratified"]),
        (Folds::time(3, "id", None), ["fold 1 (3 folds) would be trained without class 1", "first block is longer"]),
        (Folds::split("y2", 0.5), ["fold 0 (1 folds) would be", "another validation_fraction"]),
    ] {
        let rows = rows.clone().with_column("y2", cast(ident("y"), DataType::Int64)).unwrap();
        let search = search(&session, &stages, folds.clone());
        let found = search.fit(&session, rows, ident("id").gt_eq(lit(0_i64)), lit(false), &scratch).await;
        let message = found.unwrap_err().to_string();
        assert!(says.iter().all(|part| message.contains(part)), "{message}");
    }
}

fn number(number: Expr) -> Expr {
    cast(number, DataType::Float64)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_trained_on_out_of_fold_and_validated_as_scored() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    let rows = session.sql(NOISE).await.unwrap();
    let stages = json!([{"target_encoder": {
        "inputs": ["x"], "outputs": ["rate"], "label_col": "y", "handle_invalid": "keep", "cv": 5, "by": "id"
    }}]);
    let search = search(&session, &stages, Folds::hash(3, "id"));
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

/// Logistic regression that panics where it is told to, and counts its fits.
#[derive(Debug, Default)]
struct Fragile {
    inner: LogisticRegression,
    n_fits: Arc<AtomicUsize>,
}

impl Estimator for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }

    fn validate(&self, _: &Params, _: ProblemType) -> Result<(), MlError> {
        Ok(())
    }

    fn fit(&self, m: &Matrix, rows: &[u32], all: &[Params], ctx: &FitContext) -> Vec<Result<Box<dyn Model>, MlError>> {
        self.n_fits.fetch_add(all.len(), Ordering::Relaxed);
        assert!(all.iter().all(|params| params["fails"] == false), "no such luck");
        all.iter().flat_map(|_| self.inner.fit(m, rows, &[Params::new()], ctx)).collect()
    }

    fn load(&self, features: Arc<[Feature]>, files: &Artifacts) -> Result<Box<dyn Model>, MlError> {
        self.inner.load(features, files)
    }
}

/// A session that knows the fragile estimator, a search over these of its candidates, and the count of its fits.
async fn fragile(folder: &Path, fails: &[bool]) -> (Session, GridSearch, Arc<AtomicUsize>) {
    let mut plugins = Plugins::default();
    let estimator = Fragile::default();
    let n_fits = Arc::clone(&estimator.n_fits);
    plugins.estimators.register(Arc::new(estimator));
    let options = SessionOptions { warehouse: folder.display().to_string(), plugins, ..SessionOptions::default() };
    let session = Session::open(options).await.unwrap();
    let stages = json!([{"standard_scaler": {"inputs": ["x"]}}]);
    let mut search = search(&session, &stages, Folds::hash(2, "id"));
    let candidate = |(id, fails): (usize, &bool)| Candidate {
        id,
        estimator: "fragile".to_owned(),
        params: [("fails".to_owned(), json!(fails))].into(),
    };
    search.candidates = fails.iter().enumerate().map(candidate).collect();
    (session, search, n_fits)
}

async fn fit(session: &Session, search: &GridSearch, folder: &Path) -> crate::Result<SearchResult> {
    let rows = session.sql(NOISE).await.unwrap().with_column("x", number(ident("x"))).unwrap();
    let scratch = Location::parse(folder.join("scratch").to_str().unwrap()).unwrap();
    let (train, holdout) = (ident("id").lt(lit(3_000_i64)), ident("id").gt_eq(lit(3_000_i64)));
    search.fit(session, rows, train, holdout, &scratch).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_ends_its_group_is_a_row_with_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let (session, search, _) = fragile(folder.path(), &[false, true, false]).await;
    let found = fit(&session, &search, folder.path()).await.unwrap();
    let errors: Vec<bool> = found.candidates.iter().map(|c| c.error.is_some()).collect();
    assert_eq!(errors, [false, true, false], "{:?}", found.candidates);
    assert!(found.candidates[1].error.as_ref().unwrap().contains("ended badly"), "{:?}", found.candidates[1]);
    assert!(found.candidates[0].folds.iter().chain(&found.candidates[2].folds).all(Option::is_some));
    assert!(found.candidates[1].mean.is_none() && found.best == 0);

    let (session, search, _) = fragile(folder.path(), &[true, true]).await;
    let message = fit(&session, &search, folder.path()).await.unwrap_err().to_string();
    assert!(message.contains("ended badly"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_are_kept_are_not_trained_again() {
    let folder = tempfile::tempdir().unwrap();
    let (session, mut search, n_fits) = fragile(folder.path(), &[false, false]).await;
    search.keep_at = Some(Location::parse(folder.path().join("kept").to_str().unwrap()).unwrap());
    let whole = fit(&session, &search, folder.path()).await.unwrap();
    assert_eq!((whole.n_resumed, n_fits.swap(0, Ordering::Relaxed)), (0, 5), "two folds of two, and the refit");

    let kept = || std::fs::read_dir(folder.path().join("kept")).unwrap().map(|file| file.unwrap().path());
    assert_eq!(kept().count(), 2);
    std::fs::remove_file(kept().next().unwrap()).unwrap();
    let resumed = fit(&session, &search, folder.path()).await.unwrap();
    assert_eq!((resumed.n_resumed, n_fits.swap(0, Ordering::Relaxed)), (2, 3));
    let metrics = |found: &SearchResult| found.candidates.iter().map(|c| c.folds.clone()).collect::<Vec<_>>();
    assert_eq!(metrics(&whole), metrics(&resumed));
    assert_eq!(whole.best().unwrap().model.save().unwrap(), resumed.best().unwrap().model.save().unwrap());

    // Half a file is none, and other parameters are another group.
    std::fs::write(kept().next().unwrap(), "[{\"group\":").unwrap();
    assert_eq!(fit(&session, &search, folder.path()).await.unwrap().n_resumed, 2);
    search.candidates[0].params.insert("other".to_owned(), json!(1));
    assert_eq!(fit(&session, &search, folder.path()).await.unwrap().n_resumed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_explained_is_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path()).await;
    let stages = json!([
        {"imputer": {"inputs": ["x"]}},
        {"standard_scaler": {"inputs": ["x"]}},
        {"vector_assembler": {"inputs": ["x"]}},
    ]);
    let mut search = search(&session, &stages, Folds::time(2, "id", None));
    let grid = json!({"logistic_regression": {"max_iter": [1, 2, 3]}, "decision_tree": {"max_depth": [1, 2]}});
    let grid = ParamGrid::from_json(&grid).unwrap();
    let of = |name: &str| session.plugins().estimators.get(name);
    search.candidates = grid.candidates(ProblemType::Binary, of).unwrap();
    for halving in [None, Some(Halving { resource: Resource::Rows, factor: 2, min_share: 0.4 })] {
        search.halving = halving;
        let rows = session.sql(NOISE).await.unwrap().with_column("x", number(ident("x"))).unwrap();
        let plan = search.explain(&session, rows.schema()).unwrap();
        let found = fit(&session, &search, folder.path()).await.unwrap();
        assert_eq!((plan.n_passes, plan.n_fits), (found.fit_passes, found.n_fits), "{plan}");
        let n_fits = if halving.is_none() { 10 } else { 16 };
        assert_eq!((plan.n_fits, plan.n_transforms, plan.n_passes), (n_fits, 3, 2));
        assert_eq!((plan.n_transforms_alone, plan.n_passes_alone), (n_fits + 2, 2 * (n_fits + 2)));
        let rungs = plan.to_string().contains("rung 2: 3 candidates, 100.0 % of the resource");
        assert_eq!(rungs, halving.is_some(), "{plan}");
    }
}
