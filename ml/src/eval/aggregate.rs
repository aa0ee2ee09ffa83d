//! SQL aggregates: `roc_auc(score, label)` and `log_loss(score, label)`.
//!
//! Rows with a null (or NaN) score or a null label are left out. States merge in any order to the same bits.

use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::curve::{cumulative, roc_area};
use super::fixed::{LossSum, log_loss_of};
use super::{multiclass, regression};

/// The evaluators: `roc_auc` and `log_loss`, both `(score, label) -> Float64`, and `regression_metrics` and
/// `multiclass_metrics`, both `(prediction, label)` to a struct of metrics; see [`super::regression`] and
/// [`super::multiclass`].
///
/// Labels are 0 and 1, or false and true. `roc_auc` is exact, keeps 8 bytes a row, and is null where a group has one
/// class only; `log_loss` is null where a group has no rows.
pub fn aggregate_udfs() -> Vec<Arc<AggregateUDF>> {
    let of_scores = [Kind::RocAuc, Kind::LogLoss].map(|kind| Arc::new(AggregateUDF::from(ScoreAggregate::new(kind))));
    of_scores.into_iter().chain([regression::udaf(), multiclass::udaf()]).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    RocAuc,
    LogLoss,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ScoreAggregate {
    kind: Kind,
    signature: Signature,
}

impl ScoreAggregate {
    fn new(kind: Kind) -> Self {
        Self { kind, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for ScoreAggregate {
    fn name(&self) -> &str {
        match self.kind {
            Kind::RocAuc => "roc_auc",
            Kind::LogLoss => "log_loss",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let fits = |t: &DataType| t.is_numeric() || matches!(t, DataType::Boolean | DataType::Null);
        match types {
            [score, label] if fits(score) && fits(label) => Ok(vec![DataType::Float64, DataType::Float64]),
            _ => plan_err!("{} takes a score and a label, both numbers, got {types:?}", self.name()),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return exec_err!("{} does not support DISTINCT", self.name());
        }
        Ok(match self.kind {
            Kind::RocAuc => Box::new(RocAuc::default()),
            Kind::LogLoss => Box::new(LogLoss::default()),
        })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name: &str, data_type| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
        let list = || DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
        Ok(match self.kind {
            Kind::RocAuc => vec![field("positives", list()), field("negatives", list())],
            Kind::LogLoss => {
                vec![field("high", DataType::UInt64), field("low", DataType::UInt64), field("count", DataType::UInt64)]
            }
        })
    }
}

/// Calls `each` with the score and class of each row that has both.
fn rows(values: &[ArrayRef], name: &str, mut each: impl FnMut(f64, bool)) -> Result<()> {
    let [scores, labels] = values else { return exec_err!("{name} takes a score and a label") };
    let (scores, labels) = (scores.as_primitive::<Float64Type>(), labels.as_primitive::<Float64Type>());
    for (score, label) in scores.iter().zip(labels.iter()) {
        match (score, label) {
            (Some(score), Some(label)) if !score.is_nan() => match label {
                0.0 => each(score, false),
                1.0 => each(score, true),
                other => return exec_err!("{name}: the label must be 0 or 1, got {other}"),
            },
            _ => {}
        }
    }
    Ok(())
}

/// The scores of each class.
#[derive(Debug, Default)]
struct RocAuc {
    positives: Vec<f64>,
    negatives: Vec<f64>,
}

impl Accumulator for RocAuc {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        rows(
            values,
            "roc_auc",
            |score, is_positive| {
                if is_positive { self.positives.push(score) } else { self.negatives.push(score) }
            },
        )
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.positives.is_empty() || self.negatives.is_empty() {
            return Ok(ScalarValue::Float64(None));
        }
        let scores: Vec<f64> = self.positives.iter().chain(&self.negatives).copied().collect();
        let labels: Vec<f64> = (0..scores.len()).map(|i| f64::from(u8::from(i < self.positives.len()))).collect();
        Ok(ScalarValue::Float64(Some(roc_area(&cumulative(&scores, &labels)))))
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.positives.capacity() + self.negatives.capacity()) * size_of::<f64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |scores: &mut Vec<f64>| {
            let scores: ArrayRef = Arc::new(Float64Array::from(std::mem::take(scores)));
            let list = datafusion::common::utils::SingleRowListArrayBuilder::new(scores).build_list_array();
            ScalarValue::List(Arc::new(list))
        };
        Ok(vec![list(&mut self.positives), list(&mut self.negatives)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [positives, negatives] = states else { return exec_err!("roc_auc: a state of two lists was expected") };
        for (into, lists) in [(&mut self.positives, positives), (&mut self.negatives, negatives)] {
            for list in lists.as_list::<i32>().iter().flatten() {
                into.extend(list.as_primitive::<Float64Type>().values());
            }
        }
        Ok(())
    }
}

/// The exact sum of the losses.
#[derive(Debug, Default)]
struct LogLoss(LossSum);

impl Accumulator for LogLoss {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        rows(values, "log_loss", |score, is_positive| self.0.add(log_loss_of(score, is_positive)))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.0.count > 0).then(|| self.0.mean())))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let words = [(self.0.sum >> 64) as u64, self.0.sum as u64, self.0.count];
        Ok(words.map(|w| ScalarValue::UInt64(Some(w))).to_vec())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [high, low, count] = states else { return exec_err!("log_loss: a state of three numbers was expected") };
        let [high, low, count] = [high, low, count].map(|a| a.as_primitive::<UInt64Type>());
        for i in (0..count.len()).filter(|&i| count.is_valid(i)) {
            let sum = (u128::from(high.value(i)) << 64) | u128::from(low.value(i));
            self.0.sum = self.0.sum.checked_add(sum).ok_or_else(|| exec_datafusion_err!("log_loss: too many rows"))?;
            self.0.count += count.value(i);
        }
        Ok(())
    }
}
