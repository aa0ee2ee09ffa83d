//! `log_loss(score, label [, weight])`: the mean logistic loss of probabilities.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;

use super::aggregate::{coerce_scores, for_each_score};
use super::fixed::{LossSum, log_loss_of};
use crate::functions::aggregate::{self, Aggregate};
use crate::functions::exact::{WeightedMoments, take};

/// The function.
pub(super) fn udaf() -> Arc<AggregateUDF> {
    aggregate::udaf::<LogLoss>()
}

/// The exact sum of the losses.
#[derive(Debug)]
enum LogLoss {
    Plain(LossSum),
    Weighted(Box<WeightedMoments>),
}

impl Aggregate for LogLoss {
    const NAME: &'static str = "log_loss";

    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_scores(Self::NAME, arg_types, &[])
    }

    fn return_type(_arg_types: &[DataType]) -> DataType {
        DataType::Float64
    }

    fn new(args: &AccumulatorArgs<'_>) -> Result<Self> {
        let is_weighted = args.exprs.len() > 2;
        Ok(if is_weighted { Self::Weighted(Box::new(WeightedMoments::new())) } else { Self::Plain(LossSum::default()) })
    }

    fn update(&mut self, values: &[ArrayRef]) -> Result<()> {
        for_each_score(Self::NAME, values, 2, |score, is_positive, weight| {
            let loss = log_loss_of(score, is_positive);
            match self {
                Self::Plain(sum) => sum.add(loss),
                Self::Weighted(moments) => moments.add(loss, weight),
            }
        })
    }

    fn to_bytes(&mut self) -> Vec<u8> {
        match self {
            Self::Plain(sum) => [&sum.sum.to_le_bytes()[..], &sum.count.to_le_bytes()].concat(),
            Self::Weighted(moments) => moments.state_bytes(),
        }
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Option<()> {
        match self {
            Self::Plain(sum) => {
                sum.sum = sum.sum.checked_add(u128::from_le_bytes(take(&mut bytes)?))?;
                sum.count += u64::from_le_bytes(take(&mut bytes)?);
                Some(())
            }
            Self::Weighted(moments) => moments.merge(bytes),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(match self {
            Self::Plain(sum) => (sum.count > 0).then(|| sum.mean()),
            Self::Weighted(moments) => moments.mean(),
        }))
    }

    fn size(&self) -> usize {
        match self {
            Self::Plain(_) => size_of::<Self>(),
            Self::Weighted(moments) => size_of::<Self>() + moments.size(),
        }
    }
}
