//! The only module that writes to standard output and standard error.
//!
//! Results go to standard output; progress, hints and errors to standard error, so a pipe gets results alone. With
//! `--json` events, results and errors are one JSON object a line on standard output.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use serde::Serialize;
use serde_json::{Value, json};

use super::args::Global;
use super::error::{CliError, Result};

/// Where what a command has to say goes.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// Bars, when standard error is a terminal and somebody looks at it.
    bars: Option<MultiProgress>,
}

impl Output {
    /// The output that the arguments ask for.
    pub(crate) fn new(global: &Global) -> Self {
        let looked_at = io::stderr().is_terminal() && !global.json && !global.quiet;
        Self { json: global.json, quiet: global.quiet, bars: looked_at.then(MultiProgress::new) }
    }

    /// Whether machines read it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether results and errors alone are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The bars of a terminal.
    pub(crate) fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_ref()
    }

    /// Writes text to standard output as it is.
    pub(crate) fn write(&self, text: impl Display) -> Result<()> {
        self.apart(|| {
            let mut out = io::stdout().lock();
            write!(out, "{text}").and_then(|()| out.flush()).map_err(closed)
        })
    }

    /// Writes a line to standard output.
    pub(crate) fn line(&self, text: impl Display) -> Result<()> {
        self.write(format_args!("{text}\n"))
    }

    /// Writes an object as a line of JSON to standard output.
    pub(crate) fn object(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(|e| CliError::Broken(format!("JSON of a result: {e}")))?;
        self.line(text)
    }

    /// Writes something that is not a result, such as what to do next, to standard error. Not with `-q` or `--json`.
    pub(crate) fn hint(&self, text: impl Display) {
        if !self.quiet && !self.json {
            self.apart(|| drop(writeln!(io::stderr().lock(), "{text}")));
        }
    }

    /// Writes an event: JSON on standard output with `--json`, else the sentence on standard error.
    pub(crate) fn event(&self, value: &impl Serialize, sentence: Option<String>) {
        if self.json {
            // Progress that nobody reads any more is no reason to stop.
            let _ = self.object(value);
        } else if let Some(sentence) = sentence {
            self.hint(sentence);
        }
    }

    /// Writes an error: the sentence on standard error, and with `--json` also an object on standard output.
    pub(crate) fn error(&self, error: &CliError) {
        if matches!(error, CliError::Closed) {
            return;
        }
        if self.json {
            let message = error.to_string();
            let _ = self.object(&json!({"event": "error", "message": message, "exit_code": error.exit_code()}));
        }
        let text = match error {
            CliError::Interrupted => format!("interrupted; to run it again: {}", command_line()),
            error => format!("error: {error}"),
        };
        self.apart(|| drop(writeln!(io::stderr().lock(), "{text}")));
    }

    /// Ends the bars.
    pub(crate) fn close(&self) {
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
    }

    /// Writes with the bars out of the way.
    fn apart<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

/// Standard output as a writer, for writers of rows.
pub(crate) fn stdout() -> impl Write {
    io::BufWriter::new(io::stdout())
}

/// What a failed write to standard output means: a reader that went away is no error.
pub(crate) fn closed(e: io::Error) -> CliError {
    match e.kind() {
        io::ErrorKind::BrokenPipe => CliError::Closed,
        _ => CliError::Stdout(e),
    }
}

/// A result for machines, told from events by its `event`.
pub(crate) fn result(name: &str, value: &impl Serialize) -> Value {
    json!({"event": name, name: value})
}

/// Sends the log to standard error at the level asked for.
pub(crate) fn log_to_stderr(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = match verbose {
        0 => "off",
        1 => "warn,tidemill=info,tidemill_engine=info,tidemill_scheduler=info,tidemill_executor=info",
        _ => "info,tidemill=debug,tidemill_engine=debug,tidemill_scheduler=debug,tidemill_executor=debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let ansi = io::stderr().is_terminal();
    // A second call in one process changes nothing.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi).try_init();
}

/// The command line of this process, quoted so that a shell reads it back.
fn command_line() -> String {
    let arguments = std::env::args().skip(1).map(|a| quoted(&a));
    std::iter::once("tidemill".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("--param=ds=2013-11-05"), "--param=ds=2013-11-05");
        assert_eq!(quoted("select 'a'"), r"'select '\''a'\'''");
        assert_eq!(quoted(""), "''");
    }
}
