//! Sessions as the arguments ask for them.

use std::sync::Arc;

use tidemill_engine::cluster::Token;
use tidemill_engine::progress::Progress;
use tidemill_engine::{Session, SessionOptions};

use super::args::Global;
use super::error::Result;

/// Opens a session in process or on the cluster that the arguments name.
pub(crate) async fn open(global: &Global, progress: Arc<dyn Progress>) -> Result<Session> {
    let options = SessionOptions {
        warehouse: global.warehouse.clone(),
        cluster: global.cluster.clone(),
        token: token(global)?,
        progress,
        memory_bytes: global.memory_limit.map(|mib| mib.saturating_mul(1 << 20)),
        ..SessionOptions::default()
    };
    Ok(Box::pin(Session::open(options)).await?)
}

/// A session in this process, for what needs no cluster.
pub(crate) async fn local(global: &Global, progress: Arc<dyn Progress>) -> Result<Session> {
    let global = Global { cluster: None, ..global.clone() };
    open(&global, progress).await
}

/// The cluster's token, when there is a file with one.
pub(crate) fn token(global: &Global) -> Result<Option<Token>> {
    Ok(global.token_file.as_deref().map(Token::read).transpose()?)
}
