//! Reports of runs: text for a terminal, and for training one self-contained HTML page.
//!
//! Everything here is a pure function of a run record or a profile; nothing reads the warehouse or prints.

mod compare;
mod format;
mod html;
mod plots;
mod profile;
mod table;
mod text;

pub use compare::comparison_table;
pub use html::training_page;
pub use plots::{calibration_plot, grid_plot, roc_plot};
pub use profile::profile_table;
pub use table::{Align, Table};
pub use text::{input_text, run_text, runs_table};

pub use format::{metric_name, params_text, seconds, short_id, thousands};

/// A chart that could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the {chart} chart: {why}")]
pub struct ReportError {
    /// Which chart.
    pub chart: &'static str,
    /// What the plotting library said.
    pub why: String,
}
