//! The arguments that the command takes. What they mean stands in their help.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand, ValueEnum};

const ABOUT: &str = "\
Turns tables into features, trains grids of models on them, and scores at scale.

A job is a YAML file with its SQL beside it. It runs in this process, or with --cluster on executors.";

const AFTER_HELP: &str = "\
Examples:
  tidemill demo                                     train on real flights, score two months, look at the result
  tidemill run examples/flights/train.yaml          train a grid and register the best model
  tidemill run examples/flights/score.yaml --param ds=2013-11-05
  tidemill sql -c 'select * from late_quality' --format csv
  tidemill models show late@live
  tidemill cluster --executors 2                    a scheduler and two executors on this machine
  tidemill demo --cluster 127.0.0.1:50050           the same job there

Exit codes:
  0    done
  1    the work failed, or a job's data is not what the job expects of it
  2    the input is wrong: an argument, a job file, SQL, data, or a name in them; nothing was changed
  3    the environment: a scheduler or store that is not reachable, a permission; the same command may work later
  130  interrupted by ctrl-C";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, about = "Distributed features, training and scoring", long_about = ABOUT, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where tables, models and run records lie: a folder, file:// or s3://bucket/prefix.
    #[arg(long, global = true, value_name = "URL", env = "TIDEMILL_WAREHOUSE", default_value = "./warehouse")]
    pub(crate) warehouse: String,
    /// Run on the cluster of this scheduler instead of in this process.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) cluster: Option<String>,
    /// The file with the token that the cluster's processes share.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Memory of queries in this process, in MiB: beyond it they spill to disk. No limit by default.
    #[arg(long, global = true, value_name = "MIB", conflicts_with = "cluster")]
    pub(crate) memory_limit: Option<usize>,
    /// Write events and results as one JSON object a line on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Write results and errors only: no progress, no reports, no hints.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Write a log to standard error; twice for more. RUST_LOG overrides it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train on a year of flights, score two months of them, and show the result.
    Demo(DemoArgs),
    /// Run a job file: train a grid of models, or score rows into a table.
    Run(RunArgs),
    /// Run SQL on the warehouse's tables, models included.
    Sql(SqlArgs),
    /// Show what is in each column of a table, a file or a query's rows.
    Describe(DescribeArgs),
    /// List, show and promote registered models.
    Models {
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// List, show, materialize and check feature views.
    Features {
        #[command(subcommand)]
        command: FeaturesCommand,
    },
    /// List and show run records.
    Runs {
        #[command(subcommand)]
        command: RunsCommand,
    },
    /// List, show and cancel what runs on a cluster, and read its errors.
    Jobs {
        #[command(subcommand)]
        command: JobsCommand,
    },
    /// Run a scheduler until it is stopped.
    Scheduler(SchedulerArgs),
    /// Run an executor until it is stopped.
    Executor(ExecutorArgs),
    /// Run a scheduler and executors on this machine until stopped.
    Cluster(ClusterArgs),
}

/// `tidemill demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidemill demo
  tidemill demo --cluster 127.0.0.1:50050
  tidemill demo --warehouse s3://bucket/prefix")]
pub(crate) struct DemoArgs {
    /// The folder of the demo's job files and data; a copy is written to ./tidemill-demo when the default is not there.
    #[arg(long, value_name = "DIR", default_value = "examples/flights")]
    pub(crate) data: PathBuf,
}

/// `tidemill run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidemill run examples/flights/train.yaml
  tidemill run examples/flights/train.yaml --explain
  tidemill run examples/flights/score.yaml --param ds=2013-11-05
  tidemill run score.yaml --param ds=2013-11-01 --param to=2013-11-30 --cluster 127.0.0.1:50050")]
pub(crate) struct RunArgs {
    /// The job file.
    pub(crate) file: PathBuf,
    /// A value for one of the job's parameters; may be given many times.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) params: Vec<(String, String)>,
    /// Show what a training job's search would fit, write and train, and what is shared; run nothing.
    #[arg(long)]
    pub(crate) explain: bool,
}

/// `tidemill sql`.
#[derive(Debug, Args)]
#[command(after_help = "\
Several statements are parted by semicolons. Queries, create table as, insert into, create view and drop work in this
process and on a cluster.

Examples:
  tidemill sql -c \"select origin, avg(score) from scored_flights group by 1\"
  tidemill sql report.sql --format csv > report.csv
  echo 'select count(*) from scored_flights' | tidemill sql -")]
pub(crate) struct SqlArgs {
    /// A file with SQL, or - for standard input.
    #[arg(value_name = "FILE", required_unless_present = "command", conflicts_with = "command")]
    pub(crate) file: Option<PathBuf>,
    /// The SQL itself.
    #[arg(short, long, value_name = "SQL")]
    pub(crate) command: Option<String>,
    /// How rows are written; json is one object a row.
    #[arg(long, value_enum)]
    pub(crate) format: Option<RowFormat>,
}

/// `tidemill describe`.
#[derive(Debug, Args)]
#[command(after_help = "\
Counts, nulls, mean, spread, range, quantiles and most frequent values, in one pass over the rows.

Examples:
  tidemill describe scored_flights
  tidemill describe examples/flights/data/weather.parquet
  tidemill describe --sql \"select * from scored_flights where ds = '2013-11-05'\" --json")]
pub(crate) struct DescribeArgs {
    /// A table or view of the warehouse, or a Parquet file or folder: a path with a slash, a .parquet file or a URL.
    #[arg(value_name = "TABLE|FILE", required_unless_present = "sql", conflicts_with = "sql")]
    pub(crate) table: Option<String>,
    /// The rows of this query instead.
    #[arg(long, value_name = "SELECT")]
    pub(crate) sql: Option<String>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    /// A table with borders.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a row.
    Json,
}

/// `tidemill models`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// All models with their newest version and aliases.
    List,
    /// One version: what it expects, how it was trained, how good it was.
    #[command(after_help = "Examples:\n  tidemill models show late@live\n  tidemill models show late/3")]
    Show {
        /// NAME, NAME@ALIAS or NAME/VERSION; the newest version for a bare name.
        #[arg(value_name = "NAME[@ALIAS|/VERSION]")]
        model: String,
        /// The fitted pipeline, stage by stage, and every feature that the model sees.
        #[arg(long)]
        features: bool,
    },
    /// Point an alias at a version.
    #[command(after_help = "Example:\n  tidemill models promote late 3 --reason 'better calibrated in December'")]
    Promote {
        /// The model's name.
        name: String,
        /// The version.
        version: u64,
        /// The alias that moves.
        #[arg(long, default_value = "live")]
        alias: String,
        /// Why, for the history.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Every move of every alias of a model.
    History {
        /// The model's name.
        name: String,
    },
}

/// `tidemill features`.
#[derive(Debug, Subcommand)]
pub(crate) enum FeaturesCommand {
    /// All feature views with their newest version and the days that are done.
    List,
    /// One view: its definition, its table, the days that are done.
    #[command(
        after_help = "Examples:\n  tidemill features show carrier_delays\n  tidemill features show carrier_delays/1"
    )]
    Show {
        /// NAME, NAME/VERSION, or a view's YAML file.
        #[arg(value_name = "VIEW")]
        view: String,
    },
    /// Compute a view's rows for a range of days and write them to its table.
    #[command(after_help = "\
Each commit is whole or not there at all: run again what was interrupted. Without --from, the days that are missing are
computed; with it, every day of the range, again where it was done before.

Examples:
  tidemill features materialize examples/flights/views/weather.yaml --from 2013-01-01 --to 2013-12-31
  tidemill features materialize weather --to 2014-01-07")]
    Materialize(MaterializeArgs),
    /// Compare a view's table with its query, run for each day over what was there on that day.
    #[command(after_help = "Example:\n  tidemill features check carrier_delays --from 2013-06-01 --to 2013-06-30")]
    Check(CheckViewArgs),
}

/// `tidemill features materialize`.
#[derive(Debug, Args)]
pub(crate) struct MaterializeArgs {
    /// A view's YAML file, which declares it, or NAME or NAME/VERSION of one that is declared.
    #[arg(value_name = "VIEW")]
    pub(crate) view: String,
    /// The first day; without it, what is missing since the view's start or its first day.
    #[arg(long, value_name = "DAY")]
    pub(crate) from: Option<NaiveDate>,
    /// The last day.
    #[arg(long, value_name = "DAY")]
    pub(crate) to: NaiveDate,
    /// The most days of one commit.
    #[arg(long, value_name = "N", default_value_t = 366, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) days_per_commit: u16,
}

/// `tidemill features check`.
#[derive(Debug, Args)]
pub(crate) struct CheckViewArgs {
    /// NAME, NAME/VERSION, or a view's YAML file.
    #[arg(value_name = "VIEW")]
    pub(crate) view: String,
    /// The first day; the first that is materialized by default.
    #[arg(long, value_name = "DAY")]
    pub(crate) from: Option<NaiveDate>,
    /// The last day; the last that is materialized by default.
    #[arg(long, value_name = "DAY")]
    pub(crate) to: Option<NaiveDate>,
}

/// `tidemill runs`.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// All runs, oldest first.
    List,
    /// The report of one run.
    Show {
        /// The run's id, or enough of its beginning.
        id: String,
    },
    /// Runs side by side: data, features, parameters, metrics, code; what differs is marked.
    Compare {
        /// The runs' ids, or enough of their beginnings.
        #[arg(num_args = 2.., required = true)]
        ids: Vec<String>,
    },
}

/// `tidemill jobs`.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// All jobs that the scheduler knows.
    List,
    /// One job with its stages.
    Show {
        /// The job's id.
        id: String,
    },
    /// Stop a job.
    Cancel {
        /// The job's id.
        id: String,
    },
    /// The errors of a job's tasks, as the executors told them.
    Logs {
        /// The job's id.
        id: String,
    },
}

/// `tidemill scheduler`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidemill scheduler
  head -c 24 /dev/urandom | base64 > token && tidemill scheduler --bind 0.0.0.0:50050 --token-file token")]
pub(crate) struct SchedulerArgs {
    /// Where to listen; port 0 takes a free one. Anything but loopback needs --token-file.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50050")]
    pub(crate) bind: SocketAddr,
    /// The host that executors and clients are told, when it is not the address.
    #[arg(long, value_name = "HOST")]
    pub(crate) external_host: Option<String>,
    /// How long a stage waits for an executor that can take it before its job fails.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) unplaceable_timeout: u64,
    /// End when standard input ends: the parent is gone.
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

/// `tidemill executor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidemill executor --scheduler 127.0.0.1:50050
  tidemill executor --scheduler db-1:50050 --bind 0.0.0.0 --token-file token --gpus 1")]
pub(crate) struct ExecutorArgs {
    /// The scheduler to work for.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) scheduler: String,
    /// How many GPUs it offers: stages that ask for one come here.
    #[arg(long, default_value_t = 0)]
    pub(crate) gpus: u32,
    /// A label it offers; `gpu` takes stages that ask for a GPU on a machine without one.
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// How many tasks it runs at a time; the machine's cores by default.
    #[arg(long, value_name = "N")]
    pub(crate) vcores: Option<usize>,
    /// Memory of all its tasks together, in MiB; 70 % of the machine's by default.
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_mib: Option<u64>,
    /// The address to listen on. Anything but loopback needs --token-file.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) bind: IpAddr,
    /// The port that serves results; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) flight_port: u16,
    /// The port that takes tasks; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) grpc_port: u16,
    /// The host that others are told, when it is not the address.
    #[arg(long, value_name = "HOST")]
    pub(crate) external_host: Option<String>,
    /// Where shuffle files lie; a temporary folder by default. Small ones lie in memory, in /dev/shm, where there is room.
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
    /// End when standard input ends: the parent is gone.
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

/// `tidemill cluster`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the scheduler's address in one line once all executors are there, and stays up until ctrl-C.

Example:
  tidemill cluster --executors 2
  tidemill demo --cluster 127.0.0.1:41234     (in another terminal, with the address it printed)")]
pub(crate) struct ClusterArgs {
    /// How many executors.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) executors: u16,
    /// How many tasks each executor runs at a time; the machine's cores shared among them by default.
    #[arg(long, value_name = "N")]
    pub(crate) vcores: Option<usize>,
    /// Memory of each executor's tasks together, in MiB; an equal part of 70 % of the machine's by default.
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_mib: Option<u64>,
    /// How many executors, the first ones, carry the label `gpu` and take stages that ask for a GPU.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) gpu_executors: u16,
}

/// `NAME=VALUE`.
fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("expected NAME=VALUE, got `{text}`; e.g. --param ds=2013-11-05")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_parameter_is_a_name_and_a_value() {
        assert_eq!(name_and_value("ds=2013-11-05=x"), Ok(("ds".into(), "2013-11-05=x".into())));
        assert!(name_and_value("ds").is_err() && name_and_value("=x").is_err());
    }
}
