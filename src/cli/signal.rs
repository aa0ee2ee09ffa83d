//! Ctrl-C, signals to end, and parents that went away.

use std::future::Future;
use std::io::Read;

use tokio::sync::oneshot;

use super::error::{CliError, Result};

/// Runs work until it ends or the process is told to: then the work is dropped, which cancels it.
///
/// # Errors
/// What the work failed with, or [`CliError::Interrupted`].
pub(crate) async fn until_interrupted(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        result = work => result,
        () = told_to_end() => Err(CliError::Interrupted),
    }
}

/// Waits for ctrl-C or, on Unix, for SIGTERM.
#[cfg(unix)]
pub(crate) async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else { return ctrl_c().await };
    tokio::select! {
        () = ctrl_c() => {}
        _ = term.recv() => {}
    }
}

/// Waits for ctrl-C.
#[cfg(not(unix))]
pub(crate) async fn told_to_end() {
    ctrl_c().await;
}

async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        // No handler could be installed: the system's own ends the process.
        std::future::pending::<()>().await;
    }
}

/// Waits until standard input ends. A parent that keeps its end of the pipe open ends it by ending, however it ends.
pub(crate) async fn parent_is_gone() {
    let (gone, told) = oneshot::channel();
    // A thread of its own: reads of standard input cannot be cancelled, and the runtime must not wait for one.
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(n) if n > 0) {}
        let _ = gone.send(());
    });
    let _ = told.await;
}
