//! Connections to executors' Flight ports, kept while they are used.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::Result;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::utils::GrpcClientConfig;

/// How long a connection may lie unused.
const IDLE: Duration = Duration::from_secs(30);
/// The most unused connections kept to one executor; more are closed.
const MAX_IDLE_PER_PEER: usize = 32;

type Peer = (String, u16, GrpcClientConfig);
type Idle = Mutex<HashMap<Peer, Vec<(BallistaClient, Instant)>>>;

/// Keeps idle connections by executor, for clients and other executors. A broken one is discarded by its user.
#[derive(Clone, Default)]
pub struct FetchPool(Arc<Idle>);

impl FetchPool {
    fn take(&self, peer: &Peer) -> Option<BallistaClient> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = idle.get_mut(peer)?;
        clients.retain(|(_, since)| since.elapsed() < IDLE);
        clients.pop().map(|(client, _)| client)
    }

    fn give_back(&self, peer: Peer, client: BallistaClient) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = idle.entry(peer).or_default();
        if clients.len() < MAX_IDLE_PER_PEER {
            clients.push((client, Instant::now()));
        }
    }
}

#[async_trait]
impl BallistaClientPool for FetchPool {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        customize_endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> Result<PooledClient> {
        let peer = (host.to_owned(), port, config.clone());
        let client = match self.take(&peer) {
            Some(client) => client,
            None => connect(host, port, config, customize_endpoint).await?,
        };
        let pool = self.clone();
        let give_back = move |client| pool.give_back(peer, client);
        Ok(PooledClient::new(client, Box::new(give_back)))
    }

    async fn evict_idle(&self) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, clients| {
            clients.retain(|(_, since)| since.elapsed() < IDLE);
            !clients.is_empty()
        });
    }
}

impl fmt::Debug for FetchPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FetchPool")
    }
}

async fn connect(
    host: &str,
    port: u16,
    config: &GrpcClientConfig,
    customize_endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
) -> Result<BallistaClient> {
    BallistaClient::try_new(
        host,
        port,
        config.max_message_size,
        config.use_tls,
        customize_endpoint,
        config.io_retries_times,
        config.io_retry_wait_time_ms,
        config.initial_connection_window_size,
        config.initial_stream_window_size,
    )
    .await
}
