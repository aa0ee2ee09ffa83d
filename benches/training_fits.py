"""How the training suites fit: ours by examples/time_training.rs, peers here or by a script of the folder peers."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def ours(binaries, estimator, params, train, test, extra=("--label", "label")):
    """Seconds of our fit and the predictions of each candidate."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "predictions.arrow"
        command = [binaries / "examples" / "time_training", "--estimator", estimator]
        command += ["--params", json.dumps(params), "--train", train, "--test", test, "--out", out, *extra]
        line = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, cwd=folder)
        with pa.memory_map(str(out)) as source:
            table = pa.ipc.open_file(source).read_all()
        predictions = [np.array(column.to_numpy()) for column in table.columns]
    return json.loads(line.stdout)["seconds"][0], predictions


def lightgbm_fit(params, rounds, train, test, categories="auto"):
    """Seconds of LightGBM's binning and training, and its predictions."""
    import lightgbm

    (x, y), (x_test, _) = train, test
    params = {"objective": "binary", "num_threads": 2, "verbose": -1, "max_bin": 255, **params}
    started = time.perf_counter()
    data = lightgbm.Dataset(x, y, params=params, categorical_feature=categories, free_raw_data=False)
    model = lightgbm.train(params, data, num_boost_round=rounds)
    seconds = time.perf_counter() - started
    return seconds, model.predict(x_test)


def numbers(path):
    """The features and the label of a file."""
    table = pq.read_table(path)
    label = table["label"].to_numpy() if "label" in table.column_names else None
    names = [name for name in table.column_names if name != "label"]
    return np.stack([table[name].to_numpy().astype(np.float64) for name in names], 1), label


def in_turn(runs, contestants):
    """Seconds of each contestant, which run in turn, and what each gave the last time."""
    seconds, given = {name: [] for name in contestants}, {}
    for _ in range(runs):
        for name, run in contestants.items():
            took, given[name] = run()
            harness.say(f"training: {name} {took:.2f} s")
            seconds[name].append(took)
    return {name: statistics.median(times) for name, times in seconds.items()}, given


def area(label, scores):
    """The area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label, scores))


def peer(script, *options):
    """What a script of the folder peers prints as JSON."""
    command = [sys.executable, harness.BENCHES / "peers" / script, *options]
    return json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout)


def rmse(label, predictions):
    """The root of the mean squared error."""
    return float(np.sqrt(np.mean((label - predictions) ** 2)))
