"""Merge and relocate: the cheapest pair becomes one, and the freed cluster goes where rows wait.

A move pays when Ward's cost of the merge, the exact growth of J, is less than what the
waiting rows gain. Batch forerunner: breathing k-means (Fritzke, arXiv 2006.15666).
"""

from typing import NamedTuple

import numpy as np

from stream_em import moments
from stream_em.arrays import Array
from stream_em.kernels import kernels_in_use
from stream_em.models.protocol import Model
from stream_em.models.settings import Restructuring
from stream_em.moments import Moments, Retentions
from stream_em.quarantine import chosen
from stream_em.state import Change, Frame, Identity, Quarantine


class House(NamedTuple):
    """What a move rearranges."""

    moments: Moments
    identity: Identity
    aside: Quarantine
    averaged: Moments | None  # moved along; a new cluster restarts from its own statistics
    norm: Retentions  # what makes a tally a normalised one


class Move(NamedTuple):
    """A house after a move, and the changes that tell it."""

    house: House
    changes: tuple[Change, ...]


def relocated(
    model: Model,
    settings: Restructuring,
    house: House,
    frame: Frame,
    typical: float,
    softness: float,
    key: tuple[int, ...],
    row: int,
) -> Move | None:
    """One merge-and-relocate, or None when the best found would not lower the objective.

    The objective is J, or with `softness` = 1/β > 0 the Helmholtz free energy F_β, for
    which Ward's cost is an upper bound. The rows aside have their distances as scores.
    The moved cluster takes only rows that it comes near; others wait for moves of their own.
    """
    aside = house.aside
    if len(aside) < settings.min_rows or len(aside) == 0:
        return None
    cost, pair = cheapest(model, house, np.ones(house.moments.mean.shape[1]))
    if float(aside.weights @ aside.scores) <= cost:  # no move can gain more than all there is
        return None
    centre, gain = _candidate(settings, aside, np.random.default_rng(key))
    if gain <= cost:  # and the merge itself can only take rows farther away
        return None
    if settings.max_ratio is not None and aside.scores[centre] > settings.max_ratio * typical:
        return None
    means = _means_after(model, house.moments, aside.rows[centre], pair)
    labels, after = kernels_in_use().nearest(aside.rows, means)
    captured = (labels == len(means) - 1) & (after <= settings.threshold * typical)
    change = after - aside.scores
    if softness > 0:
        change = free_energies(aside.rows, means, softness) - free_energies(
            aside.rows, house.moments.mean, softness
        )
    growth = cost + float(aside.weights @ change)
    if growth >= 0 or captured.sum() < settings.min_rows:
        return None
    claimed = chosen(aside, captured)
    born = moments.of_rows(claimed.rows, claimed.weights)
    left = chosen(aside, ~captured)
    return rearranged(house, frame, born, left, pair, row, "rows far from all")


def free_energies(Z: Array, means: Array, softness: float) -> Array:
    """-(1/β)·log Σ_k exp(-β d²) (n,) of rows Z (n, D), with softness = 1/β."""
    moved = Z[:, None, :] - means
    distance = np.einsum("nkd,nkd->nk", moved, moved)
    least = distance.min(axis=1)
    return least - softness * np.log(np.exp((least[:, None] - distance) / softness).sum(axis=1))


def _candidate(
    settings: Restructuring, aside: Quarantine, draw: np.random.Generator
) -> tuple[int, float]:
    """The best of some rows drawn in proportion to w·d², and by how much it alone lowers J."""
    potential = np.cumsum(aside.weights * aside.scores)
    drawn = draw.random(settings.candidates) * potential[-1]
    rows = np.searchsorted(potential, drawn, side="right").clip(max=len(aside) - 1)
    moved = aside.rows - aside.rows[rows][:, None, :]
    distance = np.einsum("cqd,cqd->cq", moved, moved)
    gains = np.maximum(aside.scores - distance, 0.0) @ aside.weights
    best = int(gains.argmax())
    return int(rows[best]), float(gains[best])


def merged(house: House, frame: Frame, pair: tuple[int, int], row: int, reason: str) -> Move:
    """The house after a pair has become one; the slot of the second is free."""
    p, q = pair
    held, identity = moments.fold(house.moments, p, q), house.identity
    place = tuple(frame.outward(held.mean[p]).tolist())
    lost, kept = int(identity.uids[q]), int(identity.uids[p])
    told = Change("merge", int(identity.slots[q]), lost, kept, row, reason, place)
    names = Identity(np.delete(identity.slots, q), np.delete(identity.uids, q), identity.next_uid)
    averaged = None if house.averaged is None else moments.fold(house.averaged, p, q)
    return Move(House(held, names, house.aside, averaged, house.norm), (told,))


def cheapest(model: Model, house: House, spread: Array) -> tuple[float, tuple[int, int] | None]:
    """The cheapest merge; nothing is merged, at no cost, while clusters are missing."""
    if len(house.identity.slots) < model.size:
        return 0.0, None
    if len(house.identity.slots) == 1:
        return np.inf, None
    costs = model.move_costs(house.moments, spread)
    p, q = np.unravel_index(int(costs.argmin()), costs.shape)
    return float(costs[p, q]), (int(p), int(q))


def _means_after(model: Model, held: Moments, centre: Array, pair: tuple[int, int] | None) -> Array:
    """Centres (K, D) after the merge, the relocated one last at `centre`."""
    if pair is not None:
        held = moments.fold(held, *pair)
    return np.concatenate([model.centres(held.mean), centre[None]])


def rearranged(
    house: House,
    frame: Frame,
    born: Moments,
    left: Quarantine,
    pair: tuple[int, int] | None,
    row: int,
    reason: str,
) -> Move:
    """The house after a pair has become one and `born` (one cluster) has the freed slot."""
    place = tuple(frame.outward(born.mean[0]).tolist())
    uid, taken = house.identity.next_uid, house.identity.slots.tolist()
    if pair is None:
        slot = int(min(set(range(len(taken) + 1)) - set(taken)))
        changes: tuple[Change, ...] = (Change("birth", slot, None, uid, row, reason, place),)
    else:
        house, changes = merged(house, frame, pair, row, "cheapest pair")
        slot, lost = changes[0].slot, changes[0].old_uid
        changes = (*changes, Change("relocation", slot, lost, uid, row, reason, place))
    slots, uids = np.append(house.identity.slots, slot), np.append(house.identity.uids, uid)
    order = np.argsort(slots)
    averaged = house.averaged
    if averaged is not None:
        averaged = moments.take(moments.join(averaged, moments.fade(born, house.norm)), order)
    joined = moments.take(moments.join(house.moments, born), order)
    identity = Identity(slots[order], uids[order], uid + 1)
    return Move(House(joined, identity, left, averaged, house.norm), changes)
