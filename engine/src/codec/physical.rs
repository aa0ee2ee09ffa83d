//! The codec of physical plans: scheduler to executors.

use std::fmt::Debug;
use std::sync::Arc;

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use tidemill_connectors::files::RowSlicesExec;
use tidemill_connectors::sink::ParallelSinkExec;

use crate::plan::asof::{AsofJoinExec, AsofLookupExec};
use crate::plan::score::ScoreExec;
use crate::plan::shards::Question;
use crate::plan::train::TrainExec;

const BALLISTA: u8 = 0;
const SCORE: u8 = 1;
const SINK: u8 = 2;
const TRAIN: u8 = 3;
const ASOF_JOIN: u8 = 4;
const ASOF_LOOKUP: u8 = 5;
const ROW_SLICES: u8 = 6;

/// Writes our operators, and leaves the rest to Ballista's codec.
#[derive(Debug, Default)]
pub struct TidemillPhysicalCodec {
    inner: BallistaPhysicalExtensionCodec,
}

impl PhysicalExtensionCodec for TidemillPhysicalCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (buf.split_first(), inputs) {
            (Some((&BALLISTA, rest)), _) => self.inner.try_decode(rest, inputs, ctx, converter),
            (Some((&SCORE, rest)), [input]) => ScoreExec::decode(rest, Arc::clone(input)),
            (Some((&SINK, rest)), _) => Ok(Arc::new(ParallelSinkExec::decode(rest, inputs)?)),
            (Some((&TRAIN, rest)), [input]) => Ok(Arc::new(TrainExec::new(Arc::clone(input), Question::decode(rest)?))),
            (Some((&ASOF_JOIN, rest)), [left, right]) => {
                AsofJoinExec::decode(rest, Arc::clone(left), Arc::clone(right))
            }
            (Some((&ASOF_LOOKUP, rest)), [left, right]) => {
                AsofLookupExec::decode(rest, Arc::clone(left), Arc::clone(right))
            }
            (Some((&ROW_SLICES, _)), [scan]) => Ok(Arc::new(RowSlicesExec::new(Arc::clone(scan)))),
            _ => internal_err!("an operator of an unknown kind with {} inputs", inputs.len()),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let (tag, bytes) = if let Some(n) = node.downcast_ref::<ScoreExec>() {
            (SCORE, n.encode()?)
        } else if let Some(n) = node.downcast_ref::<ParallelSinkExec>() {
            (SINK, n.encode()?)
        } else if let Some(n) = node.downcast_ref::<TrainExec>() {
            (TRAIN, Question::encode(n.question())?)
        } else if let Some(n) = node.downcast_ref::<AsofJoinExec>() {
            (ASOF_JOIN, n.encode()?)
        } else if let Some(n) = node.downcast_ref::<AsofLookupExec>() {
            (ASOF_LOOKUP, n.encode()?)
        } else if node.is::<RowSlicesExec>() {
            (ROW_SLICES, Vec::new())
        } else {
            buf.push(BALLISTA);
            return self.inner.try_encode(node, buf, converter);
        };
        buf.push(tag);
        buf.extend(bytes);
        Ok(())
    }
}
