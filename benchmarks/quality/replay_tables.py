"""Replay of finite data: passes until batch EM's gap, all from the same clusters."""

import warnings

import numpy as np
from bench import Bench, Table, collected, verdict
from data import SLOW5
from scores import spread
from sklearn.mixture import GaussianMixture

import stream_em as se

ROWS, CHUNKS = 20_000, 40
SHOWN = (5, 10, 20, 40)  # passes
BATCH_PASSES, GOAL = 40, 25


def q12(bench: Bench) -> list[Table]:
    """Gap to the optimum after so many passes, in mnat a row."""
    found = collected(bench.start(_gaps))
    methods = ("batch EM", "incremental", "variance-reduced")
    rows = []
    for method in methods:
        gaps = [spread(found[f"{method} {passes}"], 4) for passes in SHOWN]
        needed = found.get(f"{method} needs")
        rows.append([method, *gaps, "40" if needed is None else spread(needed, 1)])
    worst = max(found["incremental needs"])
    columns = ["method", *(f"{passes} passes" for passes in SHOWN), "passes to batch EM's 40"]
    note = (
        f"slow5, {ROWS:,} rows, {CHUNKS} chunks, no prior, no background; gap of the free energy "
        "(a lower bound of the likelihood) to the best optimum found. Goal: incremental EM needs "
        f"at most {GOAL} passes: {verdict(worst <= GOAL)}."
    )
    return [Table("Q12 replay of finite data", columns, rows, note)]


def _gaps(seed: int) -> dict[str, float]:
    draw = np.random.default_rng((seed, 12))
    X = SLOW5.rows(ROWS, draw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begin = GaussianMixture(5, max_iter=3, random_state=seed).fit(X[:2000])
        batch = {passes: _batch_em(begin, X, passes) for passes in SHOWN}
    ours = {
        "incremental": _replayed(begin, X, se.Incremental(), BATCH_PASSES),
        "variance-reduced": _replayed(begin, X, se.VarianceReduced(), 80),
    }
    best = max(max(curve.values()) for curve in ours.values())
    out = {f"batch EM {passes}": 1e3 * (best - value) for passes, value in batch.items()}
    for method, curve in ours.items():
        for passes in SHOWN:
            reached = max(value for done, value in curve.items() if done <= passes)
            out[f"{method} {passes}"] = 1e3 * (best - reached)
        enough = [done for done, value in curve.items() if value >= batch[BATCH_PASSES]]
        out[f"{method} needs"] = float(min(enough, default=10**6))
    return out


def _batch_em(begin: GaussianMixture, X: np.ndarray, passes: int) -> float:
    model = GaussianMixture(
        5,
        weights_init=begin.weights_,
        means_init=begin.means_,
        precisions_init=begin.precisions_,
        max_iter=passes,
        tol=0.0,
        reg_covar=0.0,
    )
    return float(model.fit(X).score(X))


def _replayed(begin: GaussianMixture, X: np.ndarray, method: object, most: int) -> dict[int, float]:
    """Mean free energy by passes through the rows."""
    model = se.GaussianMixture(
        5,
        prior=None,
        background=None,
        initial_means=begin.means_,
        initial_covariances=begin.covariances_,
        initial_weights=begin.weights_,
    )
    rows = len(X) // CHUNKS
    told = se.replay(
        model, se.init(model), X, sweeps=most, tolerance=0.0, method=method, chunk_rows=rows
    )
    return {sweep.passes: sweep.free_energy / sweep.weight for sweep in told.sweeps}
