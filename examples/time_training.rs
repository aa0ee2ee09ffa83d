//! Times the fit of one estimator, as `benches/training.py` needs it: Parquet files of features and a label in, seconds and
//! predictions out. Columns of 32-bit integers are categories, by index; all others are numbers.
//!
//! The seconds are those of the fit alone, from columns in memory on; reading and scoring are not in them.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use arrow::ipc::writer::FileWriter;
use clap::Parser;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use tidemill::estimator::{EstimatorRegistry, FitContext, Params, ProblemType};
use tidemill::matrix::{Feature, FeatureKind, Features, Matrix};

/// Fits candidates of one estimator on a Parquet file and scores another with each.
#[derive(Parser)]
struct Args {
    /// The estimator.
    #[arg(long)]
    estimator: String,
    /// The candidates' parameters: a JSON list of objects.
    #[arg(long)]
    params: String,
    /// What is to be learnt.
    #[arg(long, default_value = "binary")]
    problem: ProblemType,
    /// The label's column; all others are features. Without one, as for clustering, all are.
    #[arg(long)]
    label: Option<String>,
    /// The rows to train on.
    #[arg(long)]
    train: PathBuf,
    /// The rows to score.
    #[arg(long)]
    test: PathBuf,
    /// Where the predictions go: an Arrow file with a column for each candidate.
    #[arg(long)]
    out: PathBuf,
    /// How often the fit is run; each time is reported.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Fits on the rows outside each of so many folds, one after the other; the models are those of the last. 1 for all rows.
    #[arg(long, default_value_t = 1)]
    folds: u32,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let candidates: Vec<Params> = serde_json::from_str(&args.params)?;
    let estimator = EstimatorRegistry::default().get(&args.estimator)?;
    candidates.iter().try_for_each(|params| estimator.validate(params, args.problem))?;
    let train = matrix(&args, &args.train, None)?;
    let n_rows = train.x.n_rows as u32;
    let outside =
        |fold: u32| (0..n_rows).filter(|row| args.folds == 1 || row % args.folds != fold).collect::<Vec<u32>>();
    let folds: Vec<Vec<u32>> = (0..args.folds).map(outside).collect();

    let (mut seconds, mut models) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        let started = Instant::now();
        for rows in &folds {
            let fitted = estimator.fit(&train, rows, &candidates, &FitContext::new(args.seed));
            models = fitted.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        seconds.push(started.elapsed().as_secs_f64());
    }

    let test = matrix(&args, &args.test, Some(Arc::clone(&train.x.features)))?;
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (i, model) in models.iter().enumerate() {
        let n_outputs = model.n_outputs();
        let predictions = model.predict(&test.x)?;
        for output in 0..n_outputs {
            let of_output = predictions.iter().skip(output).step_by(n_outputs).copied();
            columns.push((format!("{i}.{output}"), Arc::new(Float64Array::from_iter_values(of_output))));
        }
    }
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut writer = FileWriter::try_new(std::fs::File::create(&args.out)?, &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    Ok(writeln!(std::io::stdout(), "{}", json!({"seconds": seconds, "n_rows": n_rows}))?)
}

/// A file's columns as a matrix, in the order of its rows: predictions are compared by place.
fn matrix(args: &Args, path: &Path, features: Option<Arc<[Feature]>>) -> Result<Matrix, Box<dyn Error>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path)?)?.build()?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    let schema = batches.first().ok_or("there are no rows")?.schema();
    let batch = concat_batches(&schema, &batches)?;
    let label = match &args.label {
        None => vec![0.0; batch.num_rows()],
        Some(name) => {
            let label = batch.column_by_name(name).ok_or_else(|| format!("there is no column {name:?}"))?;
            cast(label, &DataType::Float64)?.as_primitive::<Float64Type>().values().to_vec()
        }
    };
    let features = features.unwrap_or_else(|| features_of(&batch, args.label.as_deref()));
    Ok(Matrix::new(Features::from_batch(features, &batch)?, label, args.problem))
}

/// All columns but the label.
fn features_of(batch: &RecordBatch, label: Option<&str>) -> Arc<[Feature]> {
    let kind = |column: &ArrayRef| match column.as_primitive_opt::<Int32Type>() {
        None => FeatureKind::Number,
        Some(indices) => {
            let n_labels = indices.iter().flatten().max().unwrap_or(0) + 1;
            let labels = (0..n_labels).map(|index| index.to_string()).collect();
            FeatureKind::Category { labels, indicators: n_labels as usize }
        }
    };
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| Some(field.name().as_str()) != label);
    columns.map(|(field, column)| Feature { name: field.name().clone(), kind: kind(column) }).collect()
}
