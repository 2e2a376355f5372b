"""The same through the product: `stream-em run` on elec in file order, beside the library.

    python benchmarks/quality/through_product.py [--batches 1,100,500,5000] [--seed 0]

The standardised, jittered rows go to a CSV file; the command reads them in batches of each
size, and its summary is compared with `se.step` on the same rows in the same batches.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench import Table, verdict
from data import available, in_order

import stream_em as se
from stream_em.models.protocol import Model

MODELS = {
    "kmeans": (se.KMeans(50), "n_clusters = 50"),
    "gaussian-mixture": (se.GaussianMixture(10), "n_components = 10"),
}
CONFIG = """\
[engine]
name = "elec"
seed = {seed}

[source]
kind = "csv"
path = "{data}"
features = {features}
batch_size = {batch}

[model]
kind = "{kind}"
{size}

[http]
address = "off"
"""


def main() -> None:
    """Run both ways for each batch size and print the table."""
    options = _options()
    if not available("elec"):
        print("no ../shared/data/elec.csv.gz here; skipped")
        return
    X = in_order("elec", options.seed)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "elec.csv"
        features = [f"f{d}" for d in range(X.shape[1])]
        header = ",".join(features)
        np.savetxt(data, X, fmt="%.17g", delimiter=",", header=header, comments="")
        rows = [
            _compared(Path(folder), data, features, X, kind, int(batch), options.seed)
            for kind in MODELS
            for batch in options.batches.split(",")
        ]
    columns = ["model", "batch", "stream-em run", "library", "relative difference", "≤ 1e-9"]
    note = "Prequential means a row: d² of k-means, nats of the mixture; rows after seeding."
    print(Table("The same through the product", columns, rows, note).markdown())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", default="1,100,500,5000")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _compared(
    folder: Path, data: Path, features: list[str], X: np.ndarray, kind: str, batch: int, seed: int
) -> list[str]:
    model, size = MODELS[kind]
    config, summary = folder / f"{kind}-{batch}.toml", folder / f"{kind}-{batch}.json"
    config.write_text(
        CONFIG.format(
            seed=seed, data=data, features=json.dumps(features), batch=batch, kind=kind, size=size
        )
    )
    command = [sys.executable, "-m", "stream_em", "run", str(config), "--no-progress"]
    subprocess.run(
        [*command, "--until-end", "--summary-json", str(summary)], check=True, capture_output=True
    )
    figure = "objective_per_event" if kind == "kmeans" else "log_likelihood_nats_per_event"
    told = json.loads(summary.read_text())[figure]
    ours = _by_library(model, X, batch, seed)[figure]
    difference = abs(told - ours) / abs(ours)
    cells = [f"{told:.9f}", f"{ours:.9f}", f"{difference:.1e}"]
    return [kind, str(batch), *cells, verdict(difference <= 1e-9)]


def _by_library(model: Model, X: np.ndarray, batch: int, seed: int) -> dict[str, float]:
    state, weight, objective, likelihood = se.init(model, seed=seed), 0.0, 0.0, 0.0
    for start in range(0, len(X), batch):
        state, info = se.step(model, state, X[start : start + batch])
        weight, objective = weight + info.weight, objective + info.objective
        likelihood += info.log_likelihood
    return {
        "objective_per_event": objective / weight,
        "log_likelihood_nats_per_event": likelihood / weight,
    }


if __name__ == "__main__":
    main()
