//! `WriteNode`: the logical form of the connectors' partition-preserving sink.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use tidemill_connectors::sink::{SinkSpec, files_schema};

/// Writes its input's rows as files; its rows are the files that were written.
#[derive(Debug, Clone)]
pub struct WriteNode {
    /// What is written.
    pub input: LogicalPlan,
    /// Where and how.
    pub spec: SinkSpec,
    schema: DFSchemaRef,
}

impl WriteNode {
    /// A plan that writes `input`.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn plan(input: LogicalPlan, spec: SinkSpec) -> Result<LogicalPlan> {
        let schema = Arc::new(DFSchema::try_from(files_schema().as_ref().clone())?);
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(Self { input, spec, schema }) }))
    }

    /// The wire form, without the input.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.spec.encode()?)
    }

    /// Reads the wire form.
    pub(crate) fn decode(bytes: &[u8], input: LogicalPlan) -> Result<LogicalPlan> {
        Self::plan(input, SinkSpec::decode(bytes)?)
    }

    /// What tells two nodes apart: the spec's text.
    fn identity(&self) -> String {
        format!("{:?}", self.spec)
    }
}

impl PartialEq for WriteNode {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.identity() == other.identity()
    }
}

impl Eq for WriteNode {}

impl Hash for WriteNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.identity().hash(state);
    }
}

impl PartialOrd for WriteNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.identity().partial_cmp(&other.identity())
    }
}

impl UserDefinedLogicalNodeCore for WriteNode {
    fn name(&self) -> &str {
        "Write"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Write: format={:?}, partition_by={:?}", self.spec.format, self.spec.partition_by)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(Self { input: inputs.swap_remove(0), spec: self.spec.clone(), schema: Arc::clone(&self.schema) })
    }

    /// A sink needs every column of its input, whatever is read of the files that it reports.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.input.schema().fields().len()).collect()])
    }
}
