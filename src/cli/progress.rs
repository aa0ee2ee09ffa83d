//! Progress of long work: bars on a terminal, lines elsewhere, JSON for machines.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tidemill::report;
use tidemill_engine::progress::{Event, Progress};

use super::output::Output;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);
/// How wide the names of steps are.
const NAME_CHARS: usize = 12;
/// A step whose units of work are counted.
const COUNTED: &str = "{prefix:12} {bar:28.cyan/dim} {human_pos}/{human_len} {elapsed} {wide_msg:.dim}";
/// A step whose units are not known.
const UNCOUNTED: &str = "{prefix:12} {spinner:.cyan} {elapsed} {wide_msg:.dim}";

/// Tells the output of events, and remembers where the run's record lies.
#[derive(Debug)]
pub(crate) struct Reporter {
    output: Arc<Output>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bars: HashMap<String, ProgressBar>,
    record: Option<String>,
}

impl Reporter {
    /// A reporter to an output.
    pub(crate) fn new(output: &Arc<Output>) -> Arc<Self> {
        Arc::new(Self { output: Arc::clone(output), state: Mutex::default() })
    }

    /// Where the last run's record lies.
    pub(crate) fn record(&self) -> Option<String> {
        self.state().record.clone()
    }

    /// Takes away the bars of steps that did not end.
    pub(crate) fn close(&self) {
        self.state().bars.drain().for_each(|(_, bar)| bar.finish_and_clear());
    }

    /// A bar is shown or it is not: what a panicking thread left is good enough.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_bar(&self, step: &str, detail: &str, total: Option<u64>) {
        let Some(bars) = self.output.bars() else { return };
        let bar = bars.add(total.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
        bar.set_style(style(total.is_some()));
        bar.set_prefix(step.to_owned());
        bar.set_message(detail.to_owned());
        bar.enable_steady_tick(TICK);
        if let Some(old) = self.state().bars.insert(step.to_owned(), bar) {
            old.finish_and_clear();
        }
    }

    fn advance_bar(&self, step: &str, done: u64, detail: &str) {
        if let Some(bar) = self.state().bars.get(step) {
            bar.set_position(done);
            bar.set_message(detail.to_owned());
        }
    }

    fn end_bar(&self, step: &str) {
        if let Some(bar) = self.state().bars.remove(step) {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Reporter {
    fn event(&self, event: &Event) {
        match event {
            Event::StepStarted { step, detail, total } => self.start_bar(step, detail, *total),
            Event::StepProgress { step, done, detail } => self.advance_bar(step, *done, detail),
            Event::StepFinished { step, .. } => self.end_bar(step),
            Event::RunFinished { record, .. } => self.state().record = Some(record.clone()),
            Event::RunStarted { .. } | Event::Warning { .. } => {}
        }
        self.output.event(event, sentence(event));
    }
}

/// The line that an event is worth where there are no bars, and above them where there are.
fn sentence(event: &Event) -> Option<String> {
    match event {
        Event::RunStarted { run, job, mode } => Some(format!("{job}: run {run}, {mode}")),
        Event::StepFinished { step, seconds, summary } => {
            Some(format!("{:<NAME_CHARS$}  {summary} in {}", format!("{step}:"), report::seconds(*seconds)))
        }
        Event::Warning { message } => Some(format!("warning: {message}")),
        Event::StepStarted { .. } | Event::StepProgress { .. } | Event::RunFinished { .. } => None,
    }
}

fn style(counted: bool) -> ProgressStyle {
    let template = if counted { COUNTED } else { UNCOUNTED };
    // The templates are constants; should one be wrong, the library's own style is shown.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━─")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_valid() {
        for template in [COUNTED, UNCOUNTED] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }

    #[test]
    fn a_step_that_ended_is_a_line() {
        let event = Event::StepFinished { step: "features".into(), seconds: 1.31, summary: "336,776 rows".into() };
        assert_eq!(sentence(&event).as_deref(), Some("features:     336,776 rows in 1.3 s"));
    }
}
