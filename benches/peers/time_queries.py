"""Times SQL files over a folder of Parquet tables on DataFusion, DuckDB or Spark.

Takes the options of examples/time_queries.rs, prints the same lines and writes the same files: for
each query a line of JSON with the seconds of its runs or its error, and its rows as NAME.arrow.
"""

import argparse
import json
import os
import time
from pathlib import Path

import pyarrow as pa


def datafusion(tables, cores):
    """Plain DataFusion, as its Python package has it."""
    import datafusion

    config = datafusion.SessionConfig().with_target_partitions(cores)
    session = datafusion.SessionContext(config)
    for name, path in tables.items():
        session.register_parquet(name, path)
    return lambda sql: session.sql(sql).to_arrow_table()


def duckdb(tables, cores):
    """DuckDB over the same files."""
    import duckdb

    session = duckdb.connect(config={"threads": cores})
    for name, path in tables.items():
        session.sql(f"create view {name} as select * from '{path}'")
    return lambda sql: session.sql(sql).to_arrow_table()


def spark(tables, cores):
    """Spark in one JVM."""
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.driver.memory", "6g")
        .config("spark.sql.shuffle.partitions", str(cores * 2))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    for name, path in tables.items():
        session.read.parquet(path).createOrReplaceTempView(name)
    return lambda sql: session.sql(sql).toArrow()


ENGINES = {"datafusion": datafusion, "duckdb": duckdb, "spark": spark}


def timed(run, sql, warmup, runs):
    """The rows of a query and the seconds of each run that counts."""
    seconds = []
    for number in range(warmup + runs):
        start = time.perf_counter()
        rows = run(sql)
        if number >= warmup:
            seconds.append(time.perf_counter() - start)
    return rows, seconds


def write_rows(path, rows):
    """Writes rows as an Arrow IPC file."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--tables", type=Path, required=True, help="folder of NAME.parquet")
    parser.add_argument("--queries", type=Path, required=True, help="folder of NAME.sql")
    parser.add_argument("--out", type=Path, required=True, help="folder for NAME.arrow")
    parser.add_argument("--warmup", type=int, default=0, help="runs that do not count (0)")
    parser.add_argument("--runs", type=int, default=2, help="runs that count (2)")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="all by default")
    return parser.parse_args()


def main():
    """Runs every query and prints a line for each."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    tables = {path.stem: str(path) for path in sorted(args.tables.glob("*.parquet"))}
    run = ENGINES[args.engine](tables, args.cores)
    for query in sorted(args.queries.glob("*.sql")):
        line = {"query": query.stem}
        try:
            rows, line["seconds"] = timed(run, query.read_text(), args.warmup, args.runs)
            line["n_rows"] = rows.num_rows
            write_rows(args.out / f"{query.stem}.arrow", rows)
        except Exception as error:  # each engine has its own; one query does not stop the others
            line = {"query": query.stem, "error": str(error)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
