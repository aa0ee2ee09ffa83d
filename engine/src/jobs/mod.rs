//! Jobs: a training or scoring run from a job file, with its record.

mod evaluate;
mod expect;
mod params;
mod record;
mod run;
mod score;
mod spec;
mod train;

pub use record::{CalibrationBin, CandidateRecord, Evaluation, RunRecord, ScoreRecord, StepRecord, TrainRecord};
pub use spec::{
    Device, Folds, Grid, Into, Job, JobFile, JobKind, ParamSpec, ParamType, PlainCopy, Promote, Register, ScoreJob,
    Split, SqlFile, TrainJob,
};
