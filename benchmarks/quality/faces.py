"""Data with other faces, against tuning to a few sets: J/J_batch and R, worst cases first."""

from concurrent.futures import Future

import numpy as np
from bench import Bench, Table, collected
from data import available, random_mixture, shuffled
from passes import one_pass, partially_fitted
from scores import held_out, objective, recovery, spread
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

import stream_em as se

MEASURED = ("weather", "cover", "donors", "digits", "segment")
MEANS, COMPONENTS = 20, 10  # K of k-means and of the mixtures on measured sets
MIXTURES, ROWS = 20, 20_000  # random mixtures, and rows of each
TEST_SHARE = 5  # one in so many rows is held out


def faces(bench: Bench) -> list[Table]:
    """Measured sets, then random mixtures."""
    names = [name for name in MEASURED if available(name)]
    runs = {name: bench.start(_measured, name) for name in names}
    count = bench.seeds if bench.quick else MIXTURES
    drawn = [bench.workers.submit(_drawn, number) for number in range(count)]
    rows = []
    for name in names:
        found = collected(runs[name])
        defined = [R for R in found["R"] if not np.isnan(R)]
        R = f"{spread(defined, 3, low=True)}, {len(defined)} of {len(found['R'])}"
        figures = [spread(found["J"]), spread(found["peer J"]), R if defined else "–"]
        figures.append(spread(found["ahead"], 3, low=True))
        rows.append([name, f"{found['rows'][0]:,.0f} × {found['features'][0]:.0f}", *figures])
    means = f"J/J_batch, K = {MEANS}"
    ahead = "nats a row ahead of batch EM"
    columns = ["data", "rows × features", means, "partial_fit", f"R, K = {COMPONENTS}", ahead]
    note = (
        "Shuffled, batches of 500, one in five rows held out for R; full covariances up to "
        "16 features, diagonal beyond; R where batch EM beats one Gaussian at all. Absent: "
        + (", ".join(name for name in MEASURED if name not in names) or "none")
        + "."
    )
    return [Table("Other faces: measured data", columns, rows, note), _mixtures(drawn)]


def _mixtures(drawn: list[Future]) -> Table:
    found = [run.result() for run in drawn]
    rows = [
        [
            f"{case['K']:.0f}",
            f"{case['D']:.0f}",
            f"{case['separation']:.1f}",
            "full" if case["full"] else "diagonal",
            f"{case['J']:.3f}",
            f"{case['peer J']:.3f}",
            f"{case['R']:.3f}",
        ]
        for case in sorted(found, key=lambda case: case["R"])
    ]
    summary = spread([case["J"] for case in found]), spread([case["peer J"] for case in found])
    rows.append(["all", "", "", "", *summary, spread([case["R"] for case in found], 3, low=True)])
    columns = ["K", "D", "separation", "covariances", "J/J_batch", "partial_fit", "R"]
    note = (
        f"{ROWS:,} rows each, one repeat of each mixture, lowest R first; means spread by the "
        "separation in units of the clusters' own deviation, about."
    )
    return Table("Other faces: random mixtures", columns, rows, note)


def _measured(seed: int, name: str) -> dict[str, float]:
    X = shuffled(name, seed)
    shape = {"rows": float(len(X)), "features": float(X.shape[1])}
    return shape | _both(X, MEANS, COMPONENTS, seed)


def _drawn(number: int) -> dict[str, float]:
    draw = np.random.default_rng((number, 11))
    K = round(2 * 25 ** draw.random())  # 2 to 50
    D = round(64 ** draw.random())  # 1 to 64
    separation = float(draw.uniform(1.0, 4.0))
    X = random_mixture(K, D, separation, draw).rows(ROWS, draw)
    case = {"K": float(K), "D": float(D), "separation": separation}
    return case | _both(X, K, K, number)


def _both(X: np.ndarray, means: int, components: int, seed: int) -> dict[str, float]:
    batch = KMeans(means, n_init=3, random_state=seed).fit(X).inertia_
    ours = objective(X, one_pass(se.KMeans(means), X, 500, seed).means)
    peer = objective(X, partially_fitted(X, means, seed).cluster_centers_)
    full = X.shape[1] <= 16
    shares = {"J": ours / batch, "peer J": peer / batch, "full": float(full)}
    return shares | _likelihoods(X, components, full, seed)


def _likelihoods(X: np.ndarray, K: int, full: bool, seed: int) -> dict[str, float]:
    T, X = X[: len(X) // TEST_SHARE], X[len(X) // TEST_SHARE :]
    kind, covariance = ("full", se.Full()) if full else ("diag", se.Diagonal())
    fits = [
        GaussianMixture(K, covariance_type=kind, reg_covar=1e-4, random_state=10 * seed + i)
        for i in range(2)
    ]
    ours = one_pass(se.GaussianMixture(K, covariance), X, 500, seed)
    best = max(fit.fit(X).score(T) for fit in fits)
    single = GaussianMixture(1, covariance_type=kind, reg_covar=1e-9).fit(X).score(T)
    found = held_out(ours.model, ours.state, T)
    R = recovery(found, single, best) if best > single else np.nan
    return {"R": R, "ahead": found - best}
