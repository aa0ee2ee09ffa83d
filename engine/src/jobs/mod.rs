//! Jobs: a training or scoring run from a job file, with its record.

mod expect;
mod label;
mod params;
mod record;
mod run;
mod score;
mod spec;
mod train;
mod views;

pub use record::{CandidateRecord, RunRecord, ScoreRecord, StepRecord, TrainRecord, ViewRecord};
pub use spec::{
    Device, FeatureViews, Grid, Into, Job, JobFile, JobKind, NullLabels, ParamSpec, ParamType, PlainCopy, Promote,
    Register, ScoreJob, Search, Split, SqlFile, TrainJob,
};
pub(crate) use spec::{read_text, read_yaml, suggestion};
