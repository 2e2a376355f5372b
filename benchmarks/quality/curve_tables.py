"""K from one pass: the merge path, scored on a held-out window."""

import numpy as np
from bench import Bench, Table, collected, verdict
from data import Mixture
from passes import one_pass

import stream_em as se

TRUE_K, D, ROWS, WINDOW = 5, 4, 20_000, 2_000
SEPARATIONS = (1.2, 1.8, 2.5)
STREAMS = 12


def q10(bench: Bench) -> list[Table]:
    """How often the true K is found, from one model with K = 10."""
    runs = [bench.workers.submit(_chosen, number) for number in range(STREAMS)]
    found = collected(runs)
    rows = [
        [rule, " ".join(f"{k:.0f}" for k in ks), f"{ks.count(TRUE_K)}/{STREAMS}"]
        for rule, ks in found.items()
    ]
    exact = found["merge path, BIC"].count(TRUE_K)
    note = f"True K = {TRUE_K}. Goal: at least 7 of {STREAMS} by the merge path: "
    columns = ["rule", "K found", "exact"]
    return [Table("Q10 K from one pass", columns, rows, note + verdict(exact >= 7) + ".")]


def _chosen(number: int) -> dict[str, float]:
    draw = np.random.default_rng(number)
    means = draw.normal(size=(TRUE_K, D)) * SEPARATIONS[number % 3]
    A = draw.normal(size=(TRUE_K, D, D)) / 2
    covariances = A @ A.transpose(0, 2, 1) + 0.3 * np.eye(D)
    X = Mixture(draw.dirichlet(np.full(TRUE_K, 5.0)), means, covariances).rows(ROWS + WINDOW, draw)
    passed = one_pass(se.GaussianMixture(2 * TRUE_K), X[:ROWS], 500, number)
    curve = se.k_curve(passed.model, passed.state, X[ROWS:])
    swept = {K: _bic(K, X, number) for K in range(1, 2 * TRUE_K + 1)}
    return {
        "merge path, BIC": float(curve.best),
        "one pass for each K, BIC": float(min(swept, key=lambda K: swept[K])),
    }


def _bic(K: int, X: np.ndarray, seed: int) -> float:
    """BIC of its own pass with K, on the same window."""
    passed = one_pass(se.GaussianMixture(K), X[:ROWS], 500, seed)
    curve = se.k_curve(passed.model, passed.state, X[ROWS:])
    return float(curve.bic[0])
