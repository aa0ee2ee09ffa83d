//! Notices executors whose process is gone, long before their heartbeat times out.
//!
//! A heartbeat timeout short enough to notice a killed process quickly would also give up on an executor that is only
//! busy. So a late heartbeat only raises a question, and the executor's own port answers it: refused means that no
//! process listens there any more; anything else leaves the executor to its timeout.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use ballista_scheduler::cluster::ClusterState;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::state::{active_heartbeat, is_active};
use crate::task_log::now_ms;

/// How often heartbeats are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// Heartbeats come every two seconds: one this old is late.
const LATE_SECONDS: u64 = 3;
/// How long a connection may take before it counts as an answer that is not known.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Watches forever; ends with the runtime that it was spawned on.
pub(crate) async fn watch(state: Arc<dyn ClusterState>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        for executor_id in late(state.as_ref(), now_ms() / 1000) {
            if is_gone(state.as_ref(), &executor_id).await {
                expire(state.as_ref(), &executor_id).await;
            }
        }
    }
}

fn late(state: &dyn ClusterState, now: u64) -> Vec<String> {
    let heartbeats = state.executor_heartbeats().into_values();
    let late = heartbeats.filter(|h| is_active(h) && h.timestamp > 0 && h.timestamp + LATE_SECONDS <= now);
    late.map(|heartbeat| heartbeat.executor_id).collect()
}

async fn is_gone(state: &dyn ClusterState, executor_id: &str) -> bool {
    let Ok(executor) = state.get_executor_metadata(executor_id).await else { return false };
    let connect = TcpStream::connect((executor.host.as_str(), executor.grpc_port));
    matches!(timeout(CONNECT_TIMEOUT, connect).await, Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused)
}

/// Dates the last heartbeat back to the beginning: Ballista's next check, within a second, removes the executor and
/// gives its work to others.
async fn expire(state: &dyn ClusterState, executor_id: &str) {
    tracing::warn!("executor {executor_id} is gone: nothing listens on its port");
    if let Err(error) = state.save_executor_heartbeat(active_heartbeat(executor_id, 0)).await {
        tracing::error!("cannot expire executor {executor_id}: {error}");
    }
}
