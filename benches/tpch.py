"""TPC-H: the 22 queries on one scale factor, rows compared with DuckDB's.

Data come from tpchgen-cli into a cache folder, one Parquet file for each table. The queries are the
specification's with its validation parameters. Ours runs in process and on a cluster of a
scheduler and two executors as processes of this machine; plain DataFusion, DuckDB and, with
--spark, Spark run over the same files with as many cores. The best of two runs counts. Rows of
ordered queries are compared in order; decimals and floats within 0.01 %, since some engines answer
a division or average of decimals in double.

    python benches/tpch.py --scale 1 --spark
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

QUERIES = harness.BENCHES / "tpch" / "queries"
OURS = ("tidemill", "tidemill cluster")


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    harness.add_build_options(parser)
    cache = harness.cache("tpch")
    parser.add_argument("--scale", default="1", help="scale factor; 0.01 for a quick check (1)")
    parser.add_argument("--cache", type=Path, default=cache, help="folder of the data")
    parser.add_argument("--spark", action="store_true", help="time Spark as well")
    parser.add_argument("--executors", type=int, default=2, help="executors of the cluster (2)")
    parser.add_argument("--runs", type=int, default=2, help="runs of a query; the best counts (2)")
    parser.add_argument("--keep", type=Path, help="keep the rows of every engine in this folder")
    return parser.parse_args()


def tables(cache, scale):
    """The folder of the tables at a scale factor, generated once."""
    folder = cache / f"sf{scale}"
    if not folder.exists():
        harness.say(f"tpch: generating scale factor {scale}")
        beside = shutil.which("tpchgen-cli", path=str(Path(sys.executable).parent))
        # Renamed when whole, so that a run that was cut off leaves nothing half-written.
        partial = folder.with_name(f"{folder.name}.partial")
        command = [beside or "tpchgen-cli", "parquet", "-q", "-s", scale, "-o", str(partial)]
        subprocess.run([*command, "--overwrite"], check=True)
        partial.rename(folder)
    return folder


def summary(query, by_engine, out):
    """One query on all engines: best times, and where rows differ from DuckDB's."""
    ordered = "order by" in query.read_text()
    report = {"seconds": {}, "wrong": {}}
    for engine, lines in by_engine.items():
        line = lines.get(query.stem, {"error": "no result"})
        if "error" in line:
            report["wrong"][engine] = line["error"]
            continue
        report["seconds"][engine] = round(min(line["seconds"]), 4)
        rows = [out / name / f"{query.stem}.arrow" for name in ("duckdb", engine)]
        if text := harness.difference(*rows, ordered):
            report["wrong"][engine] = text
    return report


def totals(queries, engine_names):
    """Seconds of all queries by engine, over queries that every engine answered."""
    answered = [q for q in queries.values() if len(q["seconds"]) == len(engine_names)]
    return {e: round(sum(q["seconds"][e] for q in answered), 2) for e in engine_names}


def main():
    """Runs the suite; ends with 1 when one of our answers is not DuckDB's."""
    args = arguments()
    folder = harness.binaries(args)
    folders = {"tables": tables(args.cache, args.scale), "queries": QUERIES}
    with tempfile.TemporaryDirectory() as scratch:
        out = args.keep or Path(scratch)
        with harness.cluster(folder / "tidemill", args.executors, out / "warehouse") as address:
            by_engine = {}
            for engine, command in harness.engines(folder, args.spark, address).items():
                harness.say(f"tpch: {engine}")
                lines = harness.time_queries(command, folders, out / engine, 0, args.runs)
                by_engine[engine] = lines
        queries = {q.stem: summary(q, by_engine, out) for q in sorted(QUERIES.glob("*.sql"))}
    seconds = totals(queries, list(by_engine))
    harness.print_report(
        {
            "suite": "tpch",
            "scale": args.scale,
            "profile": args.profile,
            "cores": os.cpu_count(),
            "executors": args.executors,
            "total_seconds": seconds,
            "ratio_to_ours": {
                ours: {e: round(s / seconds[ours], 2) for e, s in seconds.items() if seconds[ours]}
                for ours in OURS
            },
            "queries": queries,
        }
    )
    sys.exit(1 if any(engine in q["wrong"] for q in queries.values() for engine in OURS) else 0)


if __name__ == "__main__":
    main()
