//! Jobs: a training or scoring run from a job file, with its record.

mod evaluate;
mod expect;
mod params;
mod record;
mod run;
mod score;
mod spec;
mod train;
mod views;

pub use record::{
    CalibrationBin, CandidateRecord, Evaluation, RunRecord, ScoreRecord, StepRecord, TrainRecord, ViewRecord,
};
pub use spec::{
    Device, FeatureViews, Folds, Grid, Into, Job, JobFile, JobKind, ParamSpec, ParamType, PlainCopy, Promote, Register,
    ScoreJob, Split, SqlFile, TrainJob,
};
pub(crate) use spec::{read_text, read_yaml, suggestion};
