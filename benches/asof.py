"""As-of joins: each left row with the latest right row of its key at its time.

10 million left rows, 50 million right rows and 10 thousand keys by default, in Parquet files that
are made once into a cache folder. Ours and DuckDB's ASOF join run in turn over the same files with
the same cores, ours once more with 2 GiB of memory, and with --spark Spark's window emulation on a
tenth of the rows, ours beside it. All count the matches and sum what they matched.

    python benches/asof.py --spark
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import duckdb
import harness

QUERIES = harness.BENCHES / "asof"
MEMORY_MIB = 2048
# A right row of some key for each of these milliseconds, all times different.
RIGHT_STEP_MS = 600


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    harness.add_build_options(parser)
    cache = harness.cache("asof")
    parser.add_argument("--left", type=int, default=10_000_000, help="left rows (10 million)")
    parser.add_argument("--right", type=int, default=50_000_000, help="right rows (50 million)")
    parser.add_argument("--keys", type=int, default=10_000, help="keys (10 thousand)")
    parser.add_argument("--cache", type=Path, default=cache, help="folder of the data")
    parser.add_argument("--spark", action="store_true", help="time Spark on a tenth as well")
    parser.add_argument("--runs", type=int, default=2, help="runs; the best counts (2)")
    return parser.parse_args()


def tables(cache, left, right, keys):
    """The folder of l.parquet and r.parquet, made once."""
    folder = cache / f"{left}x{right}x{keys}"
    if folder.exists():
        return folder
    harness.say(f"asof: making {left} and {right} rows")
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    span = right * RIGHT_STEP_MS
    start = "timestamp '2013-01-01'"
    rows = {
        "r": f"select cast(hash(i) % {keys} as int) as k, {start} + to_milliseconds(i * {RIGHT_STEP_MS}) as ts, "
        f"cast(hash(i + 1) % 1000 as bigint) as v from range({right}) t(i)",
        "l": f"select cast(hash(i + 7) % {keys} as int) as k, "
        f"{start} + to_milliseconds(cast(hash(i + 9) % {span} as bigint)) as ts, i as id from range({left}) t(i)",
    }
    for name, sql in rows.items():
        duckdb.sql(f"copy ({sql}) to '{partial / name}.parquet'")
    partial.rename(folder)
    return folder


def best(lines):
    """The best seconds of the suite's one query; fails with the engine's own error."""
    line = lines["asof"]
    if "error" in line:
        raise RuntimeError(line["error"])
    return round(min(line["seconds"]), 3)


def compare(commands, folder, scratch, runs):
    """Times each engine on the same tables: seconds, and how rows differ from the first's."""
    report = {"seconds": {}, "differences": {}}
    first = None
    for engine, (queries, command) in commands.items():
        harness.say(f"asof: {engine}")
        out = scratch / engine.replace(" ", "-")
        folders = {"tables": folder, "queries": QUERIES / queries}
        report["seconds"][engine] = best(harness.time_queries(command, folders, out, 0, runs))
        first = first or out / "asof.arrow"
        if text := harness.difference(first, out / "asof.arrow", ordered=True):
            report["differences"][engine] = text
    return report


def main():
    """Runs the suite; ends with 1 when an answer differs, or a release build is slower than its peers allow."""
    args = arguments()
    ours = [harness.binaries(args) / "examples" / "time_queries"]
    peer = [sys.executable, harness.BENCHES / "peers" / "time_queries.py", "--engine"]
    limited = [*ours, "--memory-mib", str(MEMORY_MIB)]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        folder = tables(args.cache, args.left, args.right, args.keys)
        whole = {
            "duckdb": ("duckdb", [*peer, "duckdb"]),
            "tidemill": ("tidemill", ours),
            "tidemill, 2 GiB": ("tidemill", limited),
        }
        report = {"suite": "asof", "profile": args.profile, "cores": os.cpu_count()}
        report["whole"] = compare(whole, folder, scratch / "whole", args.runs)
        if args.spark:
            tenth = tables(args.cache, args.left // 10, args.right // 10, args.keys)
            pair = {"spark": ("spark", [*peer, "spark"]), "tidemill": ("tidemill", ours)}
            report["tenth"] = compare(pair, tenth, scratch / "tenth", args.runs)
    parts = [report[part] for part in ("whole", "tenth") if part in report]
    seconds = report["whole"]["seconds"]
    report["ratio_to_duckdb"] = round(seconds["tidemill"] / seconds["duckdb"], 2)
    slow = report["ratio_to_duckdb"] > 1
    if args.spark:
        seconds_of_tenth = report["tenth"]["seconds"]
        report["ratio_of_spark"] = round(seconds_of_tenth["spark"] / seconds_of_tenth["tidemill"], 1)
        slow = slow or report["ratio_of_spark"] < 10
    harness.print_report(report)
    bad = any(part["differences"] for part in parts)
    sys.exit(1 if bad or (args.profile != "dev" and slow) else 0)


if __name__ == "__main__":
    main()
