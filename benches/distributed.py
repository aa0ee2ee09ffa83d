"""One model over rows that no executor holds: clusters of one, two and four executors of one vcore each.

Each cluster runs the same training job with `parallel: rows` on a HIGGS-like set whose matrix is three times the memory
of one executor. The models must be one, to the byte. For each estimator the table has the rows that a pass gets through
in a second, and how much of the executors' time was not computing: waiting for the others, planning, sending.

    python benches/distributed.py
    python benches/distributed.py --rows 300000 --memory-mib 64  # quick
"""

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path

import harness
import numpy as np
import pyarrow.parquet as pq
from training_data import CACHE, higgs_like

EXECUTORS = [1, 2, 4]
ESTIMATORS = {
    "logistic_regression": ("binary", "{ reg_param: 0.001 }"),
    "gradient_boosted_trees": ("binary", "{ max_iter: 20, max_leaves: 63 }"),
    "k_means": ("clustering", "{ k: 20, max_iter: 10, tol: 0 }"),
}
JOB = """
job: train
name: {estimator}
tables: {{ rows: {table} }}
features: features.sql
key: [id]
{label}
split: {{ train: "id % 10 > 0", holdout: "id % 10 = 0" }}
pipeline:
  - vector_assembler: {{ inputs: {{ type: number }} }}
grid:
  folds: {{ k: 2, by: id }}
  parallel: rows
  rows_per_shard: {rows_per_shard}
  estimators:
    {estimator}: {params}
register: {{ model: {estimator} }}
"""


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    harness.add_build_options(parser)
    parser.add_argument("--rows", type=int, default=3_000_000, help="rows of the set (3 million)")
    parser.add_argument(
        "--memory-mib", type=int, default=256, help="memory of each executor (256)"
    )
    parser.add_argument("--rows-per-shard", type=int, default=65_536, help="(65,536)")
    parser.add_argument(
        "--estimator", action="append", choices=ESTIMATORS, help="what is trained (all)"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the data")
    return parser.parse_args()


def keyed(path):
    """The same rows with a number each."""
    with_key = path.with_name(f"{path.stem}-keyed.parquet")
    if not with_key.exists():
        rows = pq.read_table(path)
        pq.write_table(rows.append_column("id", [np.arange(rows.num_rows)]), with_key)
    return with_key


def write_job(folder, args, estimator, table):
    """The job's files; the path of the job."""
    problem, params = ESTIMATORS[estimator]
    label = "problem_type: clustering" if problem == "clustering" else "label: label"
    (folder / "features.sql").write_text("select * from rows")
    job = folder / f"{estimator}.yaml"
    job.write_text(
        JOB.format(
            estimator=estimator,
            label=label,
            params=params,
            table=table,
            rows_per_shard=args.rows_per_shard,
        )
    )
    return job


def run(tidemill, job, warehouse, address):
    """The record of one run of a job on a cluster."""
    command = [tidemill, "run", job, "--json", "--warehouse", warehouse, "--cluster", address]
    lines = subprocess.run(
        list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return next(event["record"] for event in events if event["event"] == "record")


def figures(record):
    """What a run's passes cost: those of the folds and of the refit together."""
    steps = [step for step in record["steps"] if step["step"] == "passes"]
    seconds = sum(step["seconds"] for step in steps)
    passes, idle = 0, 0.0
    for step in steps:
        n, share = re.match(r"(\d+) passes .*, (\d+) % of", step["summary"]).groups()
        passes += int(n)
        idle += int(share) / 100 * step["seconds"]
    rows = record["train"]["n_rows"]
    return {
        "passes": passes,
        "seconds": seconds,
        "rows_per_second": passes * rows / seconds,
        "share_not_computing": idle / seconds,
        "seconds_in_all": sum(step["seconds"] for step in record["steps"]),
        "digest": record["train"]["digest"],
    }


def main():
    """Runs the job on each cluster and prints the figures."""
    args = arguments()
    tidemill = harness.binaries(args) / "tidemill"
    table = keyed(higgs_like(args.cache, args.rows)[0])
    report = {"rows": args.rows, "memory_mib": args.memory_mib, "estimators": {}}
    for estimator in args.estimator or ESTIMATORS:
        found = {}
        for executors in EXECUTORS:
            with tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                job = write_job(folder, args, estimator, table)
                options = ["--vcores", "1", "--memory-mib", str(args.memory_mib)]
                with harness.cluster(tidemill, executors, folder / "warehouse", options) as address:
                    found[executors] = figures(run(tidemill, job, folder / "warehouse", address))
            harness.say(f"distributed: {estimator}, {executors} executors: {found[executors]}")
        assert len({one["digest"] for one in found.values()}) == 1, "the models differ"
        report["estimators"][estimator] = found
    harness.print_report(report)


if __name__ == "__main__":
    main()
