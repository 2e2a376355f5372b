"""What all of it costs on top of the plain update, measured in the same run."""

from dataclasses import replace

import numpy as np
from bench import Bench, Table, timed, verdict
from data import random_mixture
from passes import Unaveraged

import stream_em as se
from stream_em.learning import warm_up
from stream_em.models.protocol import Model

K, D, BATCH, SEEDING = 10, 8, 1000, 10_000
MODELS = {"KMeans": se.KMeans(K), "GaussianMixture, full": se.GaussianMixture(K)}
DATA = {"clean": 0.0, "5 % outliers": 0.05}
GOAL = 0.25  # of the time of a pass


def cost(bench: Bench) -> list[Table]:
    """Seconds of a pass without and with, rounds interleaved, the quickest of each."""
    rounds, size = (3, 30_000) if bench.quick else (7, 100_000)
    rows = []
    for label, share in DATA.items():
        X = _rows(size + SEEDING, share)
        for name, model in MODELS.items():
            variants = _variants(model)
            best = dict.fromkeys(variants, np.inf)
            for _ in range(rounds):
                for variant, other in variants.items():
                    best[variant] = min(best[variant], _seconds(other, X))
            plain, whole = best["plain"], best["default"]
            extra = whole / plain - 1
            cells = [f"{size / best[variant] / 1e6:.2f}" for variant in variants]
            rows.append([name, label, *cells, f"{extra:.1%}", verdict(extra <= GOAL)])
    columns = ["model", "data", *_variants(MODELS["KMeans"]), "default over plain", "≤ 25 %"]
    note = (
        f"Million rows a second of processor time after seeding; K = {K}, D = {D}, batches of "
        f"{BATCH:,}, one thread, best of {rounds} interleaved rounds. "
        "Plain: no averaging, no restructuring, no background."
    )
    return [Table("Cost on top of the plain update", columns, rows, note)]


def _variants(model: Model) -> dict[str, Model]:
    """The model without and with what issue is taken with, one thing at a time."""
    without = {"restructuring": None, "background": None}
    schedule = Unaveraged(model.forgetting.alpha)
    return {
        "plain": replace(model, forgetting=schedule, **without),
        "with averaging": replace(model, **without),
        "default": model,
    }


def _rows(n: int, share: float) -> np.ndarray:
    draw = np.random.default_rng(0)
    X = random_mixture(K, D, 4.0, draw).rows(n, draw)
    out = draw.random(n) < share
    X[out] = draw.uniform(-40, 40, size=(int(out.sum()), D))
    return X


def _seconds(model: Model, X: np.ndarray) -> float:
    warm_up(model, D)
    state, _ = se.step(model, se.init(model), X[:SEEDING])

    def learn() -> None:
        held = state
        for start in range(SEEDING, len(X), BATCH):
            held, _ = se.step(model, held, X[start : start + BATCH])

    return timed(learn)
