//! The codec of logical plans: client to scheduler.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use ballista_core::serde::BallistaLogicalExtensionCodec;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::{Result, TableReference, internal_err};
use datafusion::datasource::file_format::FileFormatFactory;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use tidemill_connectors::files::FileTable;

use crate::plan::asof::AsofJoinNode;
use crate::plan::score::ScoreNode;
use crate::plan::shards::Question;
use crate::plan::train::{TrainNode, decode_tasks, encode_tasks};
use crate::plan::write::WriteNode;

const BALLISTA: u8 = 0;
const SCORE: u8 = 1;
const WRITE: u8 = 2;
const TRAIN: u8 = 3;
const FILE_TABLE: u8 = 4;
const MEM_TABLE: u8 = 5;
const ASOF_JOIN: u8 = 6;

/// Writes our nodes and tables, and leaves the rest to Ballista's codec.
#[derive(Debug, Default)]
pub struct TidemillLogicalCodec {
    inner: BallistaLogicalExtensionCodec,
}

impl LogicalExtensionCodec for TidemillLogicalCodec {
    fn try_decode(&self, buf: &[u8], inputs: &[LogicalPlan], ctx: &TaskContext) -> Result<Extension> {
        let plan = match (buf.split_first(), inputs) {
            (Some((&BALLISTA, rest)), _) => return self.inner.try_decode(rest, inputs, ctx),
            (Some((&SCORE, rest)), [input]) => ScoreNode::decode(rest, input.clone())?,
            (Some((&WRITE, rest)), [input]) => WriteNode::decode(rest, input.clone())?,
            (Some((&TRAIN, rest)), [input]) => TrainNode::plan(input.clone(), Question::decode(rest)?)?,
            (Some((&ASOF_JOIN, rest)), [left, right]) => AsofJoinNode::decode(rest, left.clone(), right.clone())?,
            _ => return internal_err!("a logical node of an unknown kind with {} inputs", inputs.len()),
        };
        match plan {
            LogicalPlan::Extension(e) => Ok(e),
            other => internal_err!("expected an extension node, decoded {}", other.display()),
        }
    }

    fn try_encode(&self, node: &Extension, buf: &mut Vec<u8>) -> Result<()> {
        let any = node.node.as_any();
        let (tag, bytes) = if let Some(n) = any.downcast_ref::<ScoreNode>() {
            (SCORE, n.encode()?)
        } else if let Some(n) = any.downcast_ref::<WriteNode>() {
            (WRITE, n.encode()?)
        } else if let Some(n) = any.downcast_ref::<TrainNode>() {
            (TRAIN, Question::encode(n.question())?)
        } else if let Some(n) = any.downcast_ref::<AsofJoinNode>() {
            (ASOF_JOIN, n.encode()?)
        } else {
            buf.push(BALLISTA);
            return self.inner.try_encode(node, buf);
        };
        buf.push(tag);
        buf.extend(bytes);
        Ok(())
    }

    fn try_decode_table_provider(
        &self,
        buf: &[u8],
        table_ref: &TableReference,
        schema: SchemaRef,
        ctx: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        match buf.split_first() {
            Some((&FILE_TABLE, rest)) => Ok(Arc::new(FileTable::decode(rest)?)),
            Some((&MEM_TABLE, rest)) => Ok(Arc::new(MemTable::try_new(schema, decode_tasks(rest)?)?)),
            Some((&BALLISTA, rest)) => self.inner.try_decode_table_provider(rest, table_ref, schema, ctx),
            _ => internal_err!("table {table_ref} is of an unknown kind"),
        }
    }

    fn try_encode_table_provider(
        &self,
        table_ref: &TableReference,
        node: Arc<dyn TableProvider>,
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        if let Some(table) = node.downcast_ref::<FileTable>() {
            buf.push(FILE_TABLE);
            buf.extend(table.encode()?);
            return Ok(());
        }
        if let Some(table) = node.downcast_ref::<MemTable>() {
            buf.push(MEM_TABLE);
            buf.extend(encode_tasks(table)?);
            return Ok(());
        }
        buf.push(BALLISTA);
        self.inner.try_encode_table_provider(table_ref, node, buf)
    }

    fn try_decode_file_format(&self, buf: &[u8], ctx: &TaskContext) -> Result<Arc<dyn FileFormatFactory>> {
        self.inner.try_decode_file_format(buf, ctx)
    }

    fn try_encode_file_format(&self, buf: &mut Vec<u8>, node: Arc<dyn FileFormatFactory>) -> Result<()> {
        self.inner.try_encode_file_format(buf, node)
    }
}
