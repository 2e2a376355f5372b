"""Seeding: the first clusters from held rows.

Greedy k-means++ (Arthur & Vassilvitskii 2007, with 2 + ⌊ln K⌋ trials), a few Lloyd
iterations and, for models with a density, a few EM iterations, from several seeds;
the best is kept: least J for k-means, highest log-likelihood of the rows otherwise.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from stream_em import moments as tallies
from stream_em.arrays import Array, altered
from stream_em.background import background_share, log_volumes, mixed, outside, ranged
from stream_em.errors import StreamEmWarning
from stream_em.incomplete import expect, tally_expected
from stream_em.kernels import kernels_in_use
from stream_em.models.protocol import Clusters, Model
from stream_em.models.settings import Annealing
from stream_em.models.soft_kmeans import SoftKMeans, critical_beta
from stream_em.moments import Moments

NEIGHBOURS = 1000  # rows among which neighbours are looked for
STILL = 1e3  # grains of a constant feature that count as a deviation: rounding makes no groups


class Material(NamedTuple):
    """What seeds are grown from, in the model's coordinates."""

    Z: Array  # (n, D)
    weights: Array  # (n,)
    given: Array | None  # (n, K) responsibilities that came with rows, NaN where unknown
    spread: Array  # (D,) variance of the rows
    grain: Array  # (D,) deviation below which a feature is constant


class Seeded(NamedTuple):
    """Clusters read off the tally of the held rows."""

    clusters: Clusters
    moments: Moments
    slots: Array  # (K,) int64
    claimed: float  # weight that the background claims, not in the moments
    interventions: tuple[str, ...]


def seed_clusters(model: Model, material: Material, seed: int, restarts: int) -> Seeded:
    """The best of several seeds; fewer clusters where there are fewer distinct rows.

    Half of them leave out what lies alone, and half, where clusters have a variance for each
    feature, measure distances in deviations: in other units the nearest centre is another.
    """
    learned = int(np.count_nonzero(material.weights))
    dense = core(material) if model.background is not None and restarts > 1 else None
    plain = np.ones_like(material.spread)
    deviations = np.maximum(np.sqrt(material.spread), STILL * material.grain)
    own = deviations if model.per_feature else plain
    grown = [
        _grow(
            model,
            material,
            dense if restart % 2 else None,
            own if restart % 4 < 2 and restarts > 1 else plain,
            np.random.default_rng((seed, learned, restart)),
        )
        for restart in range(restarts)
    ]
    return max(grown, key=lambda pair: pair[0])[1]


def core(material: Material) -> Array:
    """The nine tenths of the rows with the nearest neighbours, (n,) bool.

    Rows of the background lie alone, and k-means++ loves what lies alone.
    """
    X = np.nan_to_num(material.Z) / np.sqrt(material.spread)
    others = X[:: max(1, len(X) // NEIGHBOURS)]
    squares = np.square(X).sum(axis=1)[:, None] + np.square(others).sum(axis=1)
    distance = squares - 2 * X @ others.T
    near = min(max(2, len(others) // 50), len(others)) - 1
    lonely = np.partition(distance, near, axis=1)[:, near]
    return lonely <= np.quantile(lonely, 0.9)


def warn_if_fewer(model: Model, found: Seeded) -> None:
    """Warn when seeding ended in fewer clusters than asked."""
    if len(found.slots) < model.size:
        warnings.warn(
            f"seeding found {len(found.slots)} clusters, asked for {model.size}: the held rows "
            "have no more distinct values; go on with these, or ask for fewer",
            StreamEmWarning,
            stacklevel=2,
        )


def _grow(
    model: Model,
    material: Material,
    dense: Array | None,
    unit: Array,
    draw: np.random.Generator,
) -> tuple[float, Seeded]:
    """One seed: its quality (higher is better) and its clusters; distances are in `unit` (D,)."""
    filled = material._replace(Z=np.nan_to_num(material.Z) / unit)  # missing: begins at the mean
    if dense is not None:
        filled = filled._replace(weights=np.where(dense, filled.weights, 0.0))
    centres, slots = plus_plus(filled, model.size, draw)
    given = None if material.given is None else material.given[:, slots]
    material, filled = material._replace(given=given), filled._replace(given=given)
    centres, labels = lloyd(
        filled, model.centres(centres), model.seeding.lloyd_steps, model.centres
    )
    centres, filled = centres * unit, filled._replace(Z=np.nan_to_num(material.Z))
    R = with_given((labels[:, None] == np.arange(len(centres))).astype(np.float64), given)
    moments = _tally(model, filled, R, centres)
    if model.has_density:
        clusters = model.start(moments, material.spread)
        if isinstance(model, SoftKMeans) and model.annealing is not None:
            clusters = _annealed(model, model.annealing, material, clusters, draw)
        return _em(model, material, clusters, slots)
    clusters, repairs = model.m_step(moments, material.spread, None)
    if np.isnan(material.Z).any():
        clusters, moments = _completed(model, material, clusters, moments)
    return -model.distortion(moments), Seeded(clusters, moments, slots, 0.0, repairs)


def _completed(
    model: Model, material: Material, clusters: Clusters, moments: Moments
) -> tuple[Clusters, Moments]:
    """Lloyd iterations over the observed cells, after those in which all others stood at 0."""
    for _ in range(model.seeding.lloyd_steps):
        labels = expect(model, clusters, material.Z).labels
        R = (labels[:, None] == np.arange(len(clusters.means))).astype(np.float64)
        R = with_given(R, material.given)
        moments = tally_expected(model, clusters, material.Z, material.weights, R)
        clusters = model.m_step(moments, material.spread, clusters).clusters
    return clusters, moments


def _em(model: Model, material: Material, clusters: Clusters, slots: Array) -> tuple[float, Seeded]:
    """EM iterations on the held rows; at least one, so that the tally is a posterior one."""
    Z, weights, given, spread, grain = material
    total = float(weights.sum())
    uniform = None if model.background is None else ranged(Z[weights > 0], min(1.0, 0.5 * total))
    for _ in range(max(model.seeding.em_steps, 1)):
        expectation = expect(model, clusters, Z)
        own = weights
        if uniform is not None and model.background is not None:
            share = background_share(model.background, uniform, total - uniform.step)
            expectation = mixed(expectation, share, log_volumes(uniform, spread, grain, Z))
            own = weights * (1 - outside(expectation, given))
            claimed = total - float(own.sum())
            uniform = altered(uniform, step=claimed, objective=claimed)
        assert expectation.responsibilities is not None
        R = with_given(expectation.responsibilities, given)
        moments = tally_expected(model, clusters, Z, own, R)
        clusters, repairs = model.m_step(moments, spread, clusters)
    quality = float(weights @ expectation.log_likelihood)
    claimed = 0.0 if uniform is None else uniform.step
    return quality, Seeded(clusters, moments, slots, claimed, repairs)


def _annealed(
    model: SoftKMeans,
    settings: Annealing,
    material: Material,
    clusters: Clusters,
    draw: np.random.Generator,
) -> Clusters:
    """The means after β has risen from the critical value to the model's."""
    target = 1 / (2 * float(clusters.covariances[0]))
    beta = settings.start * critical_beta(material.Z, material.weights)
    scale = 1e-3 * np.sqrt(material.spread)
    while beta < target:
        nudged = clusters.means + scale * draw.normal(size=clusters.means.shape)
        clusters = model.tempered(altered(clusters, means=nudged), beta)
        expectation = expect(model, clusters, material.Z)
        assert expectation.responsibilities is not None
        R = with_given(expectation.responsibilities, material.given)
        moments = tally_expected(model, clusters, material.Z, material.weights, R)
        clusters = model.m_step(moments, material.spread, clusters).clusters
        beta *= settings.factor
    return model.tempered(clusters, target)


def _tally(model: Model, material: Material, R: Array, centres: Array) -> Moments:
    return tallies.tally(model.scatter, kernels_in_use(), material.Z, material.weights, R, centres)


def with_given(R: Array, given: Array | None) -> Array:
    """Responsibilities (n, K) with the given rows put in place of the computed ones."""
    if given is None:
        return R
    return np.where(np.isnan(given), R, given)


def plus_plus(material: Material, K: int, draw: np.random.Generator) -> tuple[Array, Array]:
    """Greedy k-means++: centres (K', D) and their slots (K',), K' ≤ K distinct ones.

    A cluster with given rows starts at their mean.
    """
    Z, weights, given, _, _ = material
    chosen = {} if given is None else _given_means(Z, weights, given)
    closest = np.full(len(Z), np.inf)
    for centre in chosen.values():
        closest = np.minimum(closest, _squared_distance(Z, centre))
    trials = 2 + int(np.log(K))
    for slot in (k for k in range(K) if k not in chosen):
        potential = np.cumsum(weights * closest if chosen else weights)
        if len(potential) == 0 or potential[-1] <= 0:
            break
        draws = draw.random(trials) * potential[-1]
        rows = np.searchsorted(potential, draws, side="right").clip(max=len(Z) - 1)
        options = [np.minimum(closest, _squared_distance(Z, Z[row])) for row in rows]
        best = int(np.argmin([weights @ option for option in options]))
        closest, chosen[slot] = options[best], Z[rows[best]]
    slots = np.array(sorted(chosen), dtype=np.int64)
    return np.array([chosen[slot] for slot in slots]).reshape(len(slots), Z.shape[1]), slots


def _squared_distance(Z: Array, centre: Array) -> Array:
    moved = Z - centre
    return np.einsum("nd,nd->n", moved, moved)


def _given_means(Z: Array, weights: Array, given: Array) -> dict[int, Array]:
    G = np.nan_to_num(given) * weights[:, None]
    mass = G.sum(axis=0)
    return {int(k): G[:, k] @ Z / mass[k] for k in np.flatnonzero(mass > 0)}


def lloyd(
    material: Material,
    centres: Array,
    steps: int,
    placed: Callable[[Array], Array] = np.asarray,
) -> tuple[Array, Array]:
    """At most `steps` Lloyd iterations: centres (K, D) and the labels (n,) under them.

    `placed` says where clusters with given mean rows (K, D) have their centres.
    """
    kernels = kernels_in_use()
    Z, weights, given, _, _ = material
    fixed = None if given is None else ~np.isnan(given).any(axis=1)
    labels: Array | None = None
    for _ in range(steps + 1):
        before = labels
        labels, _ = kernels.nearest(Z, centres)
        if fixed is not None and given is not None:
            labels = np.where(fixed, np.nan_to_num(given).argmax(axis=1), labels)
        if before is not None and np.array_equal(labels, before):
            break
        last = centres
        centres = placed(tallies.hard_tally(kernels, Z, weights, labels, centres).mean)
    assert labels is not None
    return last, labels
