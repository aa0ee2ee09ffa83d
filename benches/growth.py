"""How the cost of training grows: seconds and peak memory against rows, features, candidates and folds.

Boosted trees (20 of 31 leaves) and logistic regression on numbers of which a tenth matter. One size
is varied at a time, the others stay: 1 million rows, 28 features, 1 candidate, all rows in one fit.
Candidates differ in the step of trees and in the penalty of the regression; with folds each is
fitted on the rows outside of every fold, one after the other. Seconds are those of the fits alone,
memory is the most that the whole process held, its copy of the file's columns included.

    python benches/growth.py
    python benches/growth.py --scale 0.01  # quick: a hundredth of the rows
    python benches/growth.py --write-docs  # docs/growth.md and docs/growth.svg
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import harness
from training_data import CACHE, wide

# What is varied, and where it stays while others are.
SIZES = {
    "rows": [100_000, 1_000_000, 10_000_000],
    "features": [10, 28, 100],
    "candidates": [1, 4, 16, 64],
    "folds": [2, 3, 5, 10],
}
USUAL = {"rows": 1_000_000, "features": 28, "candidates": 1, "folds": 1}
# Candidates and folds are varied on fewer rows, so that a run of all takes minutes.
ROWS_OF_MANY = 200_000
ESTIMATORS = {
    "gradient_boosted_trees": {"max_iter": 20, "max_leaves": 31},
    "logistic_regression": {"elastic_net_param": 0.0},
}
VARIED = {
    "gradient_boosted_trees": lambda i: {"step_size": 0.05 + 0.005 * i},
    "logistic_regression": lambda i: {"reg_param": 0.1 * 0.9**i},
}
DOCS = harness.REPOSITORY / "docs"


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    harness.add_build_options(parser)
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the data")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the rows (1)")
    parser.add_argument("--write-docs", action="store_true", help="write docs/growth.md and .svg")
    return parser.parse_args()


def points():
    """What is varied with its sizes, one point after the other."""
    for varied, sizes in SIZES.items():
        usual = USUAL if varied in ("rows", "features") else {**USUAL, "rows": ROWS_OF_MANY}
        for size in sizes:
            yield varied, {**usual, varied: size}


def measure(binaries, estimator, point, files):
    """Seconds of the fits and peak memory of the process in MiB."""
    train, test = files
    params = [{**ESTIMATORS[estimator], **VARIED[estimator](i)} for i in range(point["candidates"])]
    with tempfile.TemporaryDirectory() as folder:
        command = [binaries / "examples" / "time_training", "--estimator", estimator]
        command += ["--params", json.dumps(params), "--folds", point["folds"], "--label", "label"]
        command += ["--train", train, "--test", test, "--out", Path(folder) / "predictions.arrow"]
        # The child's own peak, by the kernel: a process of its own for each, since it counts the largest child so far.
        script = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        output = subprocess.check_output([sys.executable, "-c", script, *map(str, command)], text=True)
    line, peak = output.splitlines()
    return {"seconds": json.loads(line)["seconds"][0], "mib": int(peak) / 1024}


def measure_all(args, binaries):
    """Every point with both estimators."""
    found = []
    for varied, point in points():
        point["rows"] = max(int(point["rows"] * args.scale), 1000)
        files = wide(args.cache, point["rows"], point["features"])
        for estimator in ESTIMATORS:
            figures = measure(binaries, estimator, point, files)
            harness.say(f"growth: {estimator}, {point[varied]} {varied}: {figures['seconds']:.2f} s")
            found.append({"varied": varied, "estimator": estimator, **point, **figures})
    return found


def table(found):
    """The figures as a table of Markdown."""
    lines = [
        "| | trees, s | trees, MiB | regression, s | regression, MiB |",
        "|---|---|---|---|---|",
    ]
    for trees, regression in zip(found[::2], found[1::2]):
        cells = [f"{trees[trees['varied']]:,} {trees['varied']}"]
        cells += [f"{of[name]:.3g}" if name == "seconds" else f"{of[name]:,.0f}" for of in (trees, regression) for name in ("seconds", "mib")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(found, path):
    """Seconds and memory against each size, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures make the same file.
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(SIZES), figsize=(12, 5), layout="constrained")
    for column, varied in enumerate(SIZES):
        for row, (name, label) in enumerate([("seconds", "seconds"), ("mib", "peak memory, MiB")]):
            axis = axes[row][column]
            for estimator in ESTIMATORS:
                of = [f for f in found if f["varied"] == varied and f["estimator"] == estimator]
                axis.loglog([f[varied] for f in of], [f[name] for f in of], marker="o", label=estimator)
            axis.set_ylim(min(f[name] for f in found) / 2, max(f[name] for f in found) * 2)
            axis.set_xlabel(varied)
            axis.grid(True, which="major", alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
    axes[0][0].legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def write_docs(found):
    """The page with the table and the plots."""
    plot(found, DOCS / "growth.svg")
    text = f"""# How the cost of training grows

Made by `python benches/growth.py --write-docs`, which says what is measured: one size varies, the others stay at
{USUAL["rows"]:,} rows, {USUAL["features"]} features and one fit. Candidates and folds are varied on {ROWS_OF_MANY:,} rows.

![Seconds and memory against rows, features, candidates and folds](growth.svg)

{table(found)}
"""
    (DOCS / "growth.md").write_text(text)


def main():
    """Measures and prints the table."""
    args = arguments()
    found = measure_all(args, harness.binaries(args))
    if args.write_docs:
        write_docs(found)
    print(table(found))


if __name__ == "__main__":
    main()
