//! Progress of long work: events that a front end renders as bars, lines or JSON.

use std::fmt::Debug;
use std::sync::Arc;

use serde::Serialize;

/// Something that happened while a job ran.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run began.
    RunStarted {
        /// The run's id.
        run: String,
        /// The job's name.
        job: String,
        /// `in process` or the cluster's address.
        mode: String,
    },
    /// A step began.
    StepStarted {
        /// The step's name, e.g. `features`.
        step: String,
        /// What it does, in a few words.
        detail: String,
        /// How many units of work it has, when that is known.
        total: Option<u64>,
    },
    /// Units of a step's work were done.
    StepProgress {
        /// The step's name.
        step: String,
        /// Units done so far.
        done: u64,
        /// What was done last, or what is running.
        detail: String,
    },
    /// A step ended well.
    StepFinished {
        /// The step's name.
        step: String,
        /// How long it took.
        seconds: f64,
        /// What came of it.
        summary: String,
    },
    /// Something that a person should know and that stops nothing.
    Warning {
        /// The sentence.
        message: String,
    },
    /// A run ended well.
    RunFinished {
        /// The run's id.
        run: String,
        /// How long it took.
        seconds: f64,
        /// Where its record lies.
        record: String,
    },
}

/// Who is told of [`Event`]s. Called from any thread; must return at once.
pub trait Progress: Debug + Send + Sync {
    /// Takes note of an event.
    fn event(&self, event: &Event);
}

/// Tells nobody.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: &Event) {}
}

/// A step that is running: tells of its start, its advance and its end.
#[derive(Debug)]
pub struct Step {
    name: String,
    started: std::time::Instant,
    progress: Arc<dyn Progress>,
}

impl Step {
    /// Starts a step and tells so.
    pub fn start(progress: &Arc<dyn Progress>, name: &str, detail: impl Into<String>, total: Option<u64>) -> Self {
        progress.event(&Event::StepStarted { step: name.to_owned(), detail: detail.into(), total });
        Self { name: name.to_owned(), started: std::time::Instant::now(), progress: Arc::clone(progress) }
    }

    /// Tells how far the step is.
    pub fn advance(&self, done: u64, detail: impl Into<String>) {
        self.progress.event(&Event::StepProgress { step: self.name.clone(), done, detail: detail.into() });
    }

    /// Ends the step; gives its name and how long it took.
    pub fn finish(self, summary: impl Into<String>) -> crate::jobs::StepRecord {
        let record = crate::jobs::StepRecord {
            step: self.name,
            seconds: self.started.elapsed().as_secs_f64(),
            summary: summary.into(),
        };
        self.progress.event(&Event::StepFinished {
            step: record.step.clone(),
            seconds: record.seconds,
            summary: record.summary.clone(),
        });
        record
    }
}
