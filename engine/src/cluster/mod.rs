//! What every process of a cluster shares: the hooks that configure it and the token that guards it.
//!
//! Scheduler, executors and clients build their sessions from the same [`RuntimeHooks`], so a plan encoded by one
//! decodes on the others. One [`Token`] guards every port; [`check_bind`] refuses to listen beyond loopback without one.

mod executor_id;
mod fetch_pool;
mod hooks;
mod token;

use std::net::{IpAddr, SocketAddr};

pub use executor_id::{GPU_LABEL, executor_id, has_label};
pub use fetch_pool::FetchPool;
pub use hooks::{RuntimeHooks, SessionStateProducer};
pub use token::{Token, TokenGuard};

pub use crate::session::KeptShards;

/// The largest gRPC message that a scheduler or executor of ours accepts or sends, in bytes.
///
/// Plans travel with literals and file lists inside; gRPC's usual 4 MiB and Ballista's 16 MiB are reached by
/// tables of some ten thousand files.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// What is wrong with how a process is asked to join or guard a cluster. All of it is for the caller to put right.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A port would be open to other machines with no token to guard it.
    #[error(
        "refusing to listen on {address} without a token: any machine that reaches it could run plans here; pass --token-file, or listen on 127.0.0.1"
    )]
    UnguardedBind {
        /// The address asked for.
        address: IpAddr,
    },
    /// The token cannot travel in a header.
    #[error("the token must be {min} to {max} printable ascii characters without spaces, got {got}")]
    InvalidToken {
        /// The fewest characters.
        min: usize,
        /// The most characters.
        max: usize,
        /// What was given, without showing it.
        got: String,
    },
    /// The token's file could not be read.
    #[error("cannot read the token file {path}: {source}; create one with: head -c 24 /dev/urandom | base64 > {path}")]
    TokenFile {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// Refuses an address that other machines can reach when no token guards it.
///
/// # Errors
/// [`ClusterError::UnguardedBind`], which says what to do.
pub fn check_bind(address: IpAddr, token: Option<&Token>) -> Result<(), ClusterError> {
    if token.is_none() && !address.is_loopback() {
        return Err(ClusterError::UnguardedBind { address });
    }
    Ok(())
}

/// The host that others are told to connect to: what was asked for, else the bound address, else the machine's name.
pub fn advertised_host(bound: SocketAddr, external: Option<&str>) -> String {
    match external {
        Some(host) => host.to_owned(),
        None if bound.ip().is_unspecified() => machine_name(),
        None => bound.ip().to_string(),
    }
}

/// The machine's name, or `localhost` where it cannot be told.
pub fn machine_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// Ends when the process is asked to: by ctrl-C or, on Unix, SIGTERM.
///
/// # Errors
/// When signals cannot be listened to.
pub async fn shutdown_signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_needs_no_token() {
        assert!(check_bind("127.0.0.1".parse().unwrap(), None).is_ok());
        assert!(check_bind("::1".parse().unwrap(), None).is_ok());
    }

    #[test]
    fn other_addresses_need_a_token() {
        let error = check_bind("0.0.0.0".parse().unwrap(), None).unwrap_err();
        assert!(error.to_string().contains("--token-file"), "{error}");
        let token = Token::parse("0123456789abcdef").unwrap();
        assert!(check_bind("0.0.0.0".parse().unwrap(), Some(&token)).is_ok());
    }

    #[test]
    fn advertised_host_is_never_the_wildcard() {
        let any: SocketAddr = "0.0.0.0:1".parse().unwrap();
        assert_ne!(advertised_host(any, None), "0.0.0.0");
        assert_eq!(advertised_host(any, Some("db-7")), "db-7");
        assert_eq!(advertised_host("127.0.0.1:1".parse().unwrap(), None), "127.0.0.1");
    }
}
