"""Latency of small queries: a trivial one and a group-by over a year of flights.

Each query is planned and run anew by one long-lived session: ours in process and on a cluster of a
scheduler and two executors as processes of this machine, then DataFusion and DuckDB (and Spark
with --spark) in process. Prints the median of 30 runs after a warm-up, ratios to our cluster, and
whether the rows agree with DuckDB's. On the cluster the medians are to be at most 5 ms and 20 ms.

    python benches/latency.py --spark
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import harness

# The most milliseconds that each query may take on the cluster, optimised build.
BOUNDS_MS = {"trivial": 5.0, "group_by": 20.0}
OURS = "tidemill cluster"


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    harness.add_build_options(parser)
    parser.add_argument("--spark", action="store_true", help="time Spark as well")
    parser.add_argument("--executors", type=int, default=2, help="executors of the cluster (2)")
    parser.add_argument("--warmup", type=int, default=10, help="runs that do not count (10)")
    parser.add_argument("--runs", type=int, default=30, help="runs that count (30)")
    return parser.parse_args()


def summary(name, by_engine, scratch):
    """One query on all engines: medians, ratios to ours and how rows differ from DuckDB's."""
    errors = {e: lines[name]["error"] for e, lines in by_engine.items() if "error" in lines[name]}
    medians = {
        engine: statistics.median(lines[name]["seconds"]) * 1000
        for engine, lines in by_engine.items()
        if engine not in errors
    }
    expected = scratch / "duckdb" / f"{name}.arrow"
    differences = {
        engine: harness.difference(expected, scratch / engine / f"{name}.arrow", ordered=False)
        for engine in medians
    }
    ours = medians.get(OURS)
    return {
        "p50_ms": {engine: round(value, 2) for engine, value in medians.items()},
        "ratio_to_cluster": {e: round(value / ours, 2) for e, value in medians.items() if ours},
        "bound_ms": BOUNDS_MS[name],
        "within_bound": ours is not None and ours <= BOUNDS_MS[name],
        "errors": errors,
        "differences": {e: text for e, text in differences.items() if text},
    }


def main():
    """Runs the suite; ends with 1 on an error, other rows, or a bound missed by a release build."""
    args = arguments()
    folder = harness.binaries(args)
    queries = harness.BENCHES / "latency" / "queries"
    folders = {"tables": harness.FLIGHTS / "data", "queries": queries}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        with harness.cluster(folder / "tidemill", args.executors, scratch / "warehouse") as address:
            by_engine = {}
            for engine, command in harness.engines(folder, args.spark, address).items():
                harness.say(f"latency: {engine}")
                out = scratch / engine
                lines = harness.time_queries(command, folders, out, args.warmup, args.runs)
                by_engine[engine] = lines
        queries = {name: summary(name, by_engine, scratch) for name in BOUNDS_MS}
    harness.print_report(
        {
            "suite": "latency",
            "profile": args.profile,
            "cores": os.cpu_count(),
            "executors": args.executors,
            "runs": args.runs,
            "queries": queries,
        }
    )
    bad = any(query["errors"] or query["differences"] for query in queries.values())
    slow = args.profile != "dev" and not all(query["within_bound"] for query in queries.values())
    sys.exit(1 if bad or slow else 0)


if __name__ == "__main__":
    main()
