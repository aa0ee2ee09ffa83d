//! What becomes of a training run's rows, and what their labels and weights are, checked before anything is trained.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Column;
use datafusion::functions_aggregate::expr_fn::{count, max, min, sum};
use datafusion::logical_expr::{Expr, cast, lit, when};
use datafusion::prelude::isnan;
use tidemill_ml::estimator::ProblemType;

use super::record::TrainRecord;
use super::spec::{NullLabels, TrainJob};
use super::train::FeatureRows;
use crate::grid::Label;
use crate::{EngineError, Result};

/// What a job wants to be learnt, the classes still unknown.
///
/// # Errors
/// No label for a problem that has one, or one for clustering.
pub(super) fn of(job: &TrainJob) -> Result<Label> {
    let problem = job.problem_type;
    let label = match (&job.label, problem) {
        (None, ProblemType::Clustering) => Label::none(),
        (Some(label), ProblemType::Clustering) => {
            return Err(EngineError::Invalid(format!("clustering has no label; leave out label: {label}")));
        }
        (None, _) => return Err(EngineError::Invalid(format!("label is missing: a {problem} problem needs one"))),
        (Some(label), _) => Label { problem, ..Label::binary(label) },
    };
    Ok(label.with_weight(job.weight.clone()))
}

/// Counts rows by what becomes of them, and reads what is to be learnt.
///
/// # Errors
/// Labels that are not the problem's, with their count; nulls where the job does not leave them out; one value only; no rows
/// to train on or to evaluate on; weights that are null, NaN, infinite or negative.
pub(super) async fn read(job: &TrainJob, f: &FeatureRows) -> Result<(TrainRecord, Label)> {
    let label = of(job)?;
    check_type(&label, f)?;
    let record = count_rows(job, &label, f).await?;
    if label.problem != ProblemType::Multiclass {
        return Ok((record, label));
    }
    let trained_on = f.rows.clone().filter(f.train.clone())?;
    let label = Label::classes_of(&label.column, &trained_on).await?.with_weight(label.weight);
    check_holdout(&label, f).await?;
    Ok((record, label))
}

/// Checks that label and weight are numbers where they have to be.
fn check_type(label: &Label, f: &FeatureRows) -> Result<()> {
    let no_number = |name: &str| -> Result<Option<DataType>> {
        let data_type = f.rows.schema().field_with_unqualified_name(name)?.data_type().clone();
        let is_number = data_type.is_numeric() || matches!(data_type, DataType::Boolean | DataType::Null);
        Ok((!is_number).then_some(data_type))
    };
    if let Some(name) = &label.weight
        && let Some(data_type) = no_number(name)?
    {
        return Err(EngineError::Invalid(format!("weight {name:?} is {data_type}; expected numbers")));
    }
    // Classes are looked at when they are read.
    if matches!(label.problem, ProblemType::Binary | ProblemType::Regression)
        && let Some(data_type) = no_number(&label.column)?
    {
        return Err(EngineError::Invalid(format!(
            "label {:?} is {data_type}; expected numbers for a {} problem; of texts: problem_type: multiclass",
            label.column, label.problem
        )));
    }
    Ok(())
}

async fn count_rows(job: &TrainJob, of: &Label, f: &FeatureRows) -> Result<TrainRecord> {
    let problem = of.problem;
    let label = || cast(column(&of.column), DataType::Float64);
    let labelled = || of.is_known();
    let n = |condition: Expr| -> Result<Expr> { Ok(sum(when(condition, lit(1_i64)).otherwise(lit(0_i64))?)) };
    let is_finite = |value: Expr| {
        not(isnan(value.clone())).and(value.clone().lt(lit(f64::INFINITY))).and(value.gt(lit(f64::NEG_INFINITY)))
    };
    let valid = match problem {
        ProblemType::Binary => label().eq(lit(0.0)).or(label().eq(lit(1.0))),
        ProblemType::Regression => is_finite(label()),
        ProblemType::Multiclass | ProblemType::Clustering => lit(true),
    };
    let is_number = matches!(problem, ProblemType::Binary | ProblemType::Regression);
    let compared = if is_number { label() } else { lit(0.0) };
    let in_train = when(f.train.clone().and(labelled()), compared).end()?;
    let weight = match &of.weight {
        None => lit(1.0),
        Some(weight) => cast(column(weight), DataType::Float64),
    };
    let wrong_weight = weight.clone().is_null().or(not(is_finite(weight.clone()))).or(weight.lt(lit(0.0)));
    let counts = vec![
        count(lit(1)).alias("rows"),
        n(not(labelled()))?.alias("unlabelled"),
        n(f.holdout.clone().and(not(labelled())))?.alias("unlabelled_holdout"),
        n(f.train.clone().and(labelled()))?.alias("train"),
        n(f.holdout.clone().and(labelled()))?.alias("holdout"),
        n(labelled().and(not(valid)))?.alias("invalid"),
        n(f.train.clone().and(labelled()).and(wrong_weight))?.alias("wrong_weight"),
        min(in_train.clone()).alias("min"),
        max(in_train).alias("max"),
    ];
    let batches = f.rows.clone().aggregate(vec![], counts)?.collect().await?;
    let row = batches.first().ok_or_else(|| EngineError::Internal("a count gave no row".to_owned()))?;
    check(job, of, row)?;
    Ok(TrainRecord {
        n_rows: integer(row, "rows")?,
        n_unlabelled: integer(row, "unlabelled")?,
        n_unlabelled_holdout: integer(row, "unlabelled_holdout")?,
        n_train: integer(row, "train")?,
        n_holdout: integer(row, "holdout")?,
        ..TrainRecord::default()
    })
}

fn check(job: &TrainJob, of: &Label, row: &RecordBatch) -> Result<()> {
    let (label, problem) = (&of.column, of.problem);
    let invalid = |message: String| Err(EngineError::Invalid(message));
    let unlabelled = integer(row, "unlabelled")?;
    if unlabelled > 0 && job.null_labels == NullLabels::Error {
        return invalid(format!(
            "label {label:?} is null in {unlabelled} of {} rows; to train without them: null_labels: leave_out",
            integer(row, "rows")?
        ));
    }
    let n_wrong = integer(row, "invalid")?;
    if n_wrong > 0 && problem == ProblemType::Binary {
        return invalid(format!("label {label:?} must be 0, 1 or null; {n_wrong} rows have something else"));
    }
    if n_wrong > 0 {
        return invalid(format!("label {label:?} must be a finite number; {n_wrong} rows have NaN or an infinity"));
    }
    let n_train = integer(row, "train")?;
    if n_train == 0 {
        return invalid(format!("no row with a label is chosen by split.train: {}", job.split.train));
    }
    if integer(row, "holdout")? == 0 {
        return invalid(format!("no row with a label is chosen by split.holdout: {}", job.split.holdout));
    }
    let wrong_weights = integer(row, "wrong_weight")?;
    if wrong_weights > 0 {
        return invalid(format!(
            "weight {:?} must be a finite number of at least 0; {wrong_weights} of {n_train} rows to train on have another or \
             none",
            of.weight.as_deref().unwrap_or_default()
        ));
    }
    let (low, high) = (float(row, "min")?, float(row, "max")?);
    match problem {
        ProblemType::Binary if low == high => invalid(format!(
            "label {label:?} has one class only: all {n_train} rows to train on have {low}; a classifier needs both 0 and 1"
        )),
        ProblemType::Regression if low == high => invalid(format!(
            "label {label:?} is constant: all {n_train} rows to train on have {low}; there is nothing to learn"
        )),
        _ => Ok(()),
    }
}

/// Checks that no class is held out that is not trained on.
async fn check_holdout(label: &Label, f: &FeatureRows) -> Result<()> {
    let held_out = f.rows.clone().filter(f.holdout.clone())?.filter(label.is_known())?;
    let unknown = held_out.filter(label.expr()?.is_null())?.count().await?;
    if unknown == 0 {
        return Ok(());
    }
    Err(EngineError::Invalid(format!(
        "label {:?} has classes in {unknown} rows of split.holdout that no row of split.train has; the model could not know them",
        label.column
    )))
}

fn not(expr: Expr) -> Expr {
    Expr::Not(Box::new(expr))
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn integer(row: &RecordBatch, name: &str) -> Result<u64> {
    let array = row.column_by_name(name).ok_or_else(|| EngineError::Internal(format!("no count {name:?}")))?;
    let array = arrow::compute::cast(array, &DataType::Int64)?;
    Ok(u64::try_from(array.as_primitive::<Int64Type>().value(0)).unwrap_or_default())
}

fn float(row: &RecordBatch, name: &str) -> Result<f64> {
    let array = row.column_by_name(name).ok_or_else(|| EngineError::Internal(format!("no figure {name:?}")))?;
    Ok(array.as_primitive::<Float64Type>().value(0))
}
