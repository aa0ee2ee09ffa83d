//! A client of the scheduler's job API.

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidemill_engine::cluster::Token;

use crate::task_log::TaskFailure;
use crate::{Result, SchedulerError};

/// A job in the scheduler's list. Finished jobs are kept for an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSummary {
    /// The job's id.
    pub job_id: String,
    /// The name that its session gave it, often empty.
    pub job_name: String,
    /// `Queued`, `Running`, `Completed`, `Failed` or `Invalid`; a cancelled job is `Failed`.
    pub status: String,
    /// The status in a sentence: rows and time, or the error.
    #[serde(rename = "job_status")]
    pub detail: String,
    /// How many stages it has; 0 before it is planned.
    pub num_stages: usize,
    /// How many are done.
    pub completed_stages: usize,
    /// The same in percent.
    pub percent_complete: u8,
    /// When it started, in milliseconds since 1970; 0 before.
    pub start_time: u64,
    /// When it ended, in milliseconds since 1970; 0 before.
    pub end_time: u64,
}

/// A job with its plan and stages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobDetails {
    /// What the list says of it.
    pub summary: JobSummary,
    /// Its physical plan, when it got that far.
    pub physical_plan: Option<String>,
    /// Its stages in order.
    pub stages: Vec<StageSummary>,
}

/// A stage of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageSummary {
    /// The stage's number within the job.
    pub stage_id: String,
    /// `Unresolved`, `Resolved`, `Running`, `Successful` or `Failed`.
    #[serde(rename = "stage_status")]
    pub status: String,
    /// Rows read so far.
    pub input_rows: usize,
    /// Rows written so far.
    pub output_rows: usize,
    /// The time its tasks took, formatted, once some started.
    pub elapsed_compute: Option<String>,
    /// Its tasks.
    pub tasks: Vec<Option<TaskSummary>>,
}

/// A task of a stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskSummary {
    /// The task's number within the stage.
    pub id: usize,
    /// `Running`, `Successful`, or `Failed` with reason and error.
    pub status: serde_json::Value,
    /// The stage's partitions that it covers.
    #[serde(rename = "partition_id")]
    pub partitions: Vec<u32>,
    /// How long it ran, in milliseconds.
    #[serde(rename = "exec_duration")]
    pub exec_duration_ms: u64,
    /// Rows read.
    pub input_rows: usize,
    /// Rows written.
    pub output_rows: usize,
}

/// An executor as the scheduler knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecutorSummary {
    /// The executor's id; its first part are its labels.
    pub id: String,
    /// Where it is reached.
    pub host: String,
    /// Its Flight port.
    pub port: u16,
    /// When it was last heard, in milliseconds since 1970.
    pub last_seen: Option<u64>,
}

/// What `tidemill jobs logs` shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobLogs {
    /// The job.
    pub summary: JobSummary,
    /// The executors' errors, oldest first, those of tasks tried again included.
    pub failures: Vec<TaskFailure>,
}

/// Talks to one scheduler's job API.
#[derive(Debug, Clone)]
pub struct JobsClient {
    address: String,
    token: Option<Token>,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Stages {
    stages: Vec<StageSummary>,
}

#[derive(Deserialize)]
struct Planned {
    physical_plan: Option<String>,
}

#[derive(Deserialize)]
struct Cancelled {
    reason: Option<String>,
}

impl JobsClient {
    /// A client of the scheduler at `host:port`. Nothing is sent yet.
    pub fn new(address: impl Into<String>, token: Option<Token>) -> Self {
        Self { address: address.into(), token, http: reqwest::Client::new() }
    }

    /// All jobs that the scheduler remembers, the newest first.
    ///
    /// # Errors
    /// When no scheduler answers, or it refuses the token.
    pub async fn list(&self) -> Result<Vec<JobSummary>> {
        let mut jobs: Vec<JobSummary> = self.get("/api/jobs").await?;
        jobs.sort_by(|a, b| b.job_id.cmp(&a.job_id));
        Ok(jobs)
    }

    /// One job with its stages.
    ///
    /// # Errors
    /// As [`JobsClient::list`], and when there is no such job.
    pub async fn show(&self, job: &str) -> Result<JobDetails> {
        let summary = self.find(job).await?;
        // A job that was not planned, or failed in planning, has no graph.
        let planned: Option<Planned> = self.get_if(&format!("/api/job/{job}")).await?;
        let stages: Option<Stages> = self.get_if(&format!("/api/job/{job}/stages")).await?;
        let mut stages = stages.map(|s| s.stages).unwrap_or_default();
        stages.sort_by_key(|s| s.stage_id.parse::<usize>().unwrap_or(usize::MAX));
        Ok(JobDetails { summary, physical_plan: planned.and_then(|p| p.physical_plan), stages })
    }

    /// Cancels a job that has not ended.
    ///
    /// # Errors
    /// As [`JobsClient::show`], and when the job has ended.
    pub async fn cancel(&self, job: &str) -> Result<()> {
        let path = format!("/api/job/{job}");
        let answer = self.send(Method::PATCH, &path).await?;
        match answer.status() {
            StatusCode::OK => Ok(()),
            StatusCode::NOT_FOUND => Err(self.unknown(job)),
            StatusCode::CONFLICT => {
                let cancelled: Cancelled = self.decode(&path, answer).await?;
                let reason = cancelled.reason.unwrap_or_else(|| "it has ended".to_owned());
                Err(SchedulerError::NotCancellable { job: job.to_owned(), reason })
            }
            status => Err(self.unexpected(&path, status)),
        }
    }

    /// The errors that executors reported of a job.
    ///
    /// # Errors
    /// As [`JobsClient::show`].
    pub async fn logs(&self, job: &str) -> Result<JobLogs> {
        let summary = self.find(job).await?;
        let failures = self.get(&format!("/api/job/{job}/failures")).await?;
        Ok(JobLogs { summary, failures })
    }

    /// The executors that the scheduler knows.
    ///
    /// # Errors
    /// As [`JobsClient::list`].
    pub async fn executors(&self) -> Result<Vec<ExecutorSummary>> {
        self.get("/api/executors").await
    }

    async fn find(&self, job: &str) -> Result<JobSummary> {
        let jobs = self.list().await?;
        jobs.into_iter().find(|j| j.job_id == job).ok_or_else(|| self.unknown(job))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let found = self.get_if(path).await?;
        found.ok_or_else(|| self.unexpected(path, StatusCode::NOT_FOUND))
    }

    /// The answer, or none when there is no such thing.
    async fn get_if<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let answer = self.send(Method::GET, path).await?;
        match answer.status() {
            StatusCode::OK => self.decode(path, answer).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(self.unexpected(path, status)),
        }
    }

    async fn send(&self, method: Method, path: &str) -> Result<reqwest::Response> {
        let mut request = self.http.request(method, format!("http://{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.header("authorization", token.bearer());
        }
        let unreachable = |source| SchedulerError::Unreachable { address: self.address.clone(), source };
        let answer = request.send().await.map_err(unreachable)?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Err(SchedulerError::Refused { address: self.address.clone() });
        }
        Ok(answer)
    }

    async fn decode<T: DeserializeOwned>(&self, path: &str, answer: reqwest::Response) -> Result<T> {
        answer.json().await.map_err(|error| self.unexpected(path, error))
    }

    fn unknown(&self, job: &str) -> SchedulerError {
        SchedulerError::UnknownJob { job: job.to_owned(), address: self.address.clone() }
    }

    fn unexpected(&self, path: &str, got: impl ToString) -> SchedulerError {
        SchedulerError::Answer { address: self.address.clone(), path: path.to_owned(), got: got.to_string() }
    }
}
