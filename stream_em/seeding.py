"""Seeding: the first clusters from held rows.

Greedy k-means++ (Arthur & Vassilvitskii 2007, with 2 + ⌊ln K⌋ trials), a few Lloyd
iterations and, for models with a density, a few EM iterations, from several seeds;
the best is kept: least J for k-means, highest log-likelihood of the rows otherwise.
"""

import warnings
from typing import NamedTuple

import numpy as np

from stream_em import moments as tallies
from stream_em.arrays import Array
from stream_em.errors import StreamEmWarning
from stream_em.models.density import kernels_in_use
from stream_em.models.protocol import Clusters, Model
from stream_em.moments import Moments


class Material(NamedTuple):
    """What seeds are grown from, in the model's coordinates."""

    Z: Array  # (n, D)
    weights: Array  # (n,)
    given: Array | None  # (n, K) responsibilities that came with rows, NaN where unknown
    spread: Array  # (D,) variance of the rows


class Seeded(NamedTuple):
    """Clusters read off the tally of the held rows."""

    clusters: Clusters
    moments: Moments
    slots: Array  # (K,) int64
    interventions: tuple[str, ...]


def seed_clusters(model: Model, material: Material, seed: int, restarts: int) -> Seeded:
    """The best of several seeds; fewer clusters where there are fewer distinct rows."""
    learned = int(np.count_nonzero(material.weights))
    grown = [
        _grow(model, material, np.random.default_rng((seed, learned, restart)))
        for restart in range(restarts)
    ]
    return max(grown, key=lambda pair: pair[0])[1]


def warn_if_fewer(model: Model, found: Seeded) -> None:
    """Warn when seeding ended in fewer clusters than asked."""
    if len(found.slots) < model.size:
        warnings.warn(
            f"seeding found {len(found.slots)} clusters, asked for {model.size}: the held rows "
            "have no more distinct values; go on with these, or ask for fewer",
            StreamEmWarning,
            stacklevel=2,
        )


def _grow(model: Model, material: Material, draw: np.random.Generator) -> tuple[float, Seeded]:
    """One seed: its quality (higher is better) and its clusters."""
    centres, slots = plus_plus(material, model.size, draw)
    given = None if material.given is None else material.given[:, slots]
    material = material._replace(given=given)
    centres, labels = _lloyd(material, centres, model.seeding.lloyd_steps)
    R = with_given((labels[:, None] == np.arange(len(centres))).astype(np.float64), given)
    moments = _tally(model, material, R, centres)
    if model.has_density:
        return _em(model, material, model.start(moments, material.spread), slots)
    clusters, repairs = model.m_step(moments, material.spread, None)
    quality = -float(moments.scatter.values.sum())
    return quality, Seeded(clusters, moments, slots, repairs)


def _em(model: Model, material: Material, clusters: Clusters, slots: Array) -> tuple[float, Seeded]:
    """EM iterations on the held rows; at least one, so that the tally is a posterior one."""
    for _ in range(max(model.seeding.em_steps, 1)):
        expectation = model.e_step(clusters, material.Z)
        assert expectation.responsibilities is not None
        R = with_given(expectation.responsibilities, material.given)
        moments = _tally(model, material, R, clusters.means)
        clusters, repairs = model.m_step(moments, material.spread, clusters)
    quality = float(material.weights @ expectation.log_likelihood)
    return quality, Seeded(clusters, moments, slots, repairs)


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
    Z, weights, given, _ = material
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


def _lloyd(material: Material, centres: Array, steps: int) -> tuple[Array, Array]:
    """At most `steps` Lloyd iterations: centres (K, D) and the labels (n,) under them."""
    kernels = kernels_in_use()
    Z, weights, given, _ = material
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
        centres = tallies.hard_tally(kernels, Z, weights, labels, centres).mean
    assert labels is not None
    return last, labels
