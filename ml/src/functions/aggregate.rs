//! The form of our aggregates: their results depend neither on the order nor on the partitioning of the rows, and their
//! states travel as bytes.

use std::any::type_name;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature};

use super::support;

/// An aggregate function by what it gathers of the rows.
pub(crate) trait Aggregate: fmt::Debug + Send + Sync + Sized + 'static {
    /// The function's name.
    const NAME: &'static str;
    /// Whether rows can be taken back, as a window frame that slides does.
    const RETRACTS: bool = false;

    /// The types of the arguments; a number and, if wanted, a condition unless told otherwise.
    fn coerce_types(arg_types: &[DataType]) -> Result<Vec<DataType>> {
        support::coerce_number(Self::NAME, arg_types)
    }

    /// The type of the result.
    fn return_type(arg_types: &[DataType]) -> DataType;

    /// Nothing gathered yet.
    fn new(args: &AccumulatorArgs<'_>) -> Result<Self>;

    /// The same for a window frame that slides.
    fn sliding(args: &AccumulatorArgs<'_>) -> Result<Self> {
        Self::new(args)
    }

    /// Adds rows.
    fn update(&mut self, values: &[ArrayRef]) -> Result<()>;

    /// Takes rows back that were added.
    fn retract(&mut self, _values: &[ArrayRef]) -> Result<()> {
        exec_err!("{} cannot take rows back", Self::NAME)
    }

    /// What was gathered, for another to [`Self::merge`].
    fn to_bytes(&mut self) -> Vec<u8>;

    /// Adds what another gave as bytes; none when they are damaged.
    fn merge(&mut self, bytes: &[u8]) -> Option<()>;

    /// The result.
    fn evaluate(&mut self) -> Result<ScalarValue>;

    /// How much memory it holds, in bytes.
    fn size(&self) -> usize;
}

/// The function of an aggregate.
pub(crate) fn udaf<A: Aggregate>() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Function::<A> { signature: support::own_coercion(), aggregate: PhantomData }))
}

struct Function<A> {
    signature: Signature,
    aggregate: PhantomData<fn() -> A>,
}

impl<A> fmt::Debug for Function<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(type_name::<A>())
    }
}

/// There is one function of each type.
impl<A> PartialEq for Function<A> {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl<A> Eq for Function<A> {}

impl<A> Hash for Function<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        type_name::<A>().hash(state);
    }
}

impl<A: Aggregate> AggregateUDFImpl for Function<A> {
    fn name(&self) -> &str {
        A::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        A::coerce_types(arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(A::return_type(arg_types))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "bytes"), DataType::Binary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Gathering(A::new(&args)?)))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Gathering(A::sliding(&args)?)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

#[derive(Debug)]
struct Gathering<A>(A);

impl<A: Aggregate> Accumulator for Gathering<A> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update(values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.retract(values)
    }

    fn supports_retract_batch(&self) -> bool {
        A::RETRACTS
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(states) = states.first().and_then(|v| v.as_binary_opt::<i32>()) else {
            return support::damaged(A::NAME);
        };
        for bytes in states.iter().flatten() {
            self.0.merge(bytes).map_or_else(|| support::damaged(A::NAME), Ok)?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.0.to_bytes()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.evaluate()
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
