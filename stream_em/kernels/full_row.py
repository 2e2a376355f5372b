"""One row of a mixture whose covariances are matrices, one for each cluster or one for all."""

import math

import numpy as np

from stream_em.arrays import LARGEST, Array
from stream_em.kernels.arena import (
    ABSORBED,
    ARRIVED,
    ASIDE,
    AVERAGES,
    CELLS,
    CLAIMED,
    CLAIMED_SHARE,
    COVARIANCES,
    DELTA,
    DISTANCE,
    FINAL,
    FORM,
    GROUPS,
    JOINT,
    LEANING,
    LOG_DETS,
    MEAN,
    MOVED,
    N0,
    OBJECTIVE,
    PADDED,
    PAIR,
    POOLED,
    POSTERIOR,
    PRECISIONS,
    PRIOR,
    REFRESH,
    ROW_MEAN,
    ROW_SCATTER,
    SCALED,
    SCATTER,
    SQUARES,
    STEP,
    TIED,
    TOTAL,
    D,
    K,
    Z,
    block,
    stack,
)
from stream_em.kernels.expectations import add_squares
from stream_em.kernels.factors import factor_matrix
from stream_em.kernels.machine import machine_code
from stream_em.kernels.mixture_parts import (
    claim,
    give_background,
    is_due,
    join_weights,
    set_prior,
    set_shares,
)
from stream_em.kernels.plain import LOG_2PI, RECENTRE
from stream_em.kernels.row_parts import (
    DECLINED,
    DONE,
    average_in,
    counted,
    drop,
    fade_aside,
    fade_tally,
    kept,
    measure,
    merge_mean,
    moved_in,
    remember,
    set_aside,
    spread_out,
    total,
)


@machine_code()
def expect(numbers: Array, counts: Array) -> int:
    """The E-step of the row in Z: posterior, likelihood, nearest distance."""
    clusters, n, padded = counts[K], counts[D], counts[PADDED]
    z, means = block(numbers, counts, Z, 1, n), block(numbers, counts, MEAN, clusters, n)
    factors = stack(numbers, counts, PRECISIONS, counts[GROUPS], padded, padded)
    log_dets = block(numbers, counts, LOG_DETS, clusters, 1)
    joint = block(numbers, counts, JOINT, clusters, 1)
    moved = block(numbers, counts, MOVED, padded, 1)
    pair, length = block(numbers, counts, PAIR, 2, 1), block(numbers, counts, PAIR, 3, 1)[2]
    each, least = counts[FORM] != TIED, np.inf
    for k in range(clusters):
        squared = 0.0
        length[0] = 0.0
        for d in range(n):
            moved[d, 0] = z[0, d] - means[k, d]
            squared += moved[d, 0] * moved[d, 0]
        for j in range(0, n, 2):
            add_squares(moved, factors, k if each else 0, j, pair, length, 1)
        joint[k, 0] = log_dets[k, 0] - 0.5 * (n * LOG_2PI + length[0])
        least = min(least, squared)
    numbers[DISTANCE] = least
    return join_weights(numbers, counts)


@machine_code()
def _tally(numbers: Array, counts: Array, k: int, share: float) -> None:
    """The tally of the row about the centre of k: ROW_MEAN, and SCALED and LEANING.

    Its scatter is SCALED·SCALEDᵀ - share·LEANING·LEANINGᵀ.
    """
    n, root = counts[D], math.sqrt(share)
    z, means = block(numbers, counts, Z, 1, n), block(numbers, counts, MEAN, counts[K], n)
    mean = block(numbers, counts, ROW_MEAN, 1, n)
    scaled = block(numbers, counts, SCALED, 1, n)
    leaning = block(numbers, counts, LEANING, 1, n)
    removed = left = 0.0
    for d in range(n):
        scaled[0, d] = root * (z[0, d] - means[k, d])
        leaning[0, d] = root * scaled[0, d] / share
        mean[0, d] = means[k, d] + leaning[0, d]
        about = share * (leaning[0, d] * leaning[0, d])
        removed += about
        left += scaled[0, d] * scaled[0, d] - about
    if removed > RECENTRE * left:
        for d in range(n):
            scaled[0, d] = root * (z[0, d] - mean[0, d])
            leaning[0, d] = 0.0


@machine_code()
def _merge_scatter(
    numbers: Array, counts: Array, k: int, share: float, between: float, own: Array, outer: Array
) -> None:
    """Add the tally's scatter to row k of own (G, D²), and then between·δδᵀ to that of outer."""
    n = counts[D]
    scaled, leaning = block(numbers, counts, SCALED, 1, n), block(numbers, counts, LEANING, 1, n)
    delta = block(numbers, counts, DELTA, 1, n)
    for i in range(n):
        x, lean, moved = scaled[0, i], leaning[0, i], between * delta[0, i]
        for j in range(n):
            own[k, i * n + j] += x * scaled[0, j] - share * (lean * leaning[0, j])
        for j in range(n):
            outer[k, i * n + j] += moved * delta[0, j]


@machine_code()
def merge_posterior(numbers: Array, counts: Array, weight: float) -> None:
    """Merge the row, tallied by its posterior, into the tally that has been faded."""
    clusters, n, cells = counts[K], counts[D], counts[CELLS]
    means = block(numbers, counts, MEAN, clusters, n)
    posterior = block(numbers, counts, POSTERIOR, clusters, 1)
    arrived = block(numbers, counts, ARRIVED, clusters, 1)
    steps = block(numbers, counts, STEP, clusters, 1)
    objectives = block(numbers, counts, OBJECTIVE, clusters, 1)
    squares = block(numbers, counts, SQUARES, clusters, 1)
    scatter = block(numbers, counts, SCATTER, counts[GROUPS], cells)
    tied = counts[FORM] == TIED
    own = block(numbers, counts, ROW_SCATTER, 1, cells) if tied else scatter
    outer = block(numbers, counts, POOLED, 1, cells) if tied else scatter
    for cell in range(cells if tied else 0):
        own[0, cell] = outer[0, cell] = 0.0
    row, delta = block(numbers, counts, ROW_MEAN, 1, n), block(numbers, counts, DELTA, 1, n)
    for k in range(clusters):
        share = posterior[k, 0] * weight
        squares[k, 0] += weight * weight * posterior[k, 0]
        if share > 0.0:
            _tally(numbers, counts, k, share)
            between = merge_mean(means, k, steps[k, 0], share, row, 0, delta)
            _merge_scatter(numbers, counts, 0 if tied else k, share, between, own, outer)
            steps[k, 0] += share
            objectives[k, 0] += share
            arrived[0 if tied else k, 0] += share
    for cell in range(cells if tied else 0):
        scatter[0, cell] = scatter[0, cell] + own[0, cell] + outer[0, cell]


@machine_code()
def read_off(numbers: Array, counts: Array) -> None:
    """The M-step: shares, and the covariances of those clusters whose factors are due."""
    set_shares(numbers, counts)
    clusters = counts[K]
    arrived = block(numbers, counts, ARRIVED, clusters, 1)
    steps = block(numbers, counts, STEP, clusters, 1)
    log_dets = block(numbers, counts, LOG_DETS, clusters, 1)
    if counts[FORM] == TIED:
        weight = total(steps, 0, clusters)
        if numbers[REFRESH] <= 0.0 or arrived[0, 0] > numbers[REFRESH] * weight:
            set_prior(numbers, counts)
            log_det = _factored(numbers, counts, 0, weight, max(weight + numbers[N0], 1e-300))
            arrived[0, 0] = 0.0
            for k in range(clusters):
                log_dets[k, 0] = log_det
        return
    ready = False
    for k in range(clusters):
        if is_due(numbers, counts, k):
            if not ready:
                set_prior(numbers, counts)
                ready = True
            arrived[k, 0] = 0.0
            weight = steps[k, 0]
            log_dets[k, 0] = _factored(numbers, counts, k, weight, weight + numbers[N0])


@machine_code()
def _factored(numbers: Array, counts: Array, k: int, held: float, weight: float) -> float:
    """Make covariance k, (S_k + n0 Λ)/weight where rows are held, and its factor; log det of it."""
    n, padded, groups = counts[D], counts[PADDED], counts[GROUPS]
    covariances = block(numbers, counts, COVARIANCES, groups, n * n)
    scatter = block(numbers, counts, SCATTER, groups, n * n)
    prior = block(numbers, counts, PRIOR, 1, n)
    if held > 0.0:
        for i in range(n):
            for j in range(n):
                added = numbers[N0] * prior[0, i] if i == j else 0.0
                covariances[k, i * n + j] = (scatter[k, i * n + j] + added) / weight
    factors = block(numbers, counts, PRECISIONS, groups, padded * padded)
    work = block(numbers, counts, POOLED, n, n)
    log_det, _ = factor_matrix(covariances, k, n, factors, padded, work)
    return log_det


@machine_code()
def learn_full(numbers: Array, counts: Array, row: Array, weight: float) -> int:
    """Learn a row (D,) of some weight; declined rows leave everything as it was."""
    if not (moved_in(numbers, counts, row) and 0.0 <= weight <= LARGEST):
        return DECLINED
    if weight == 0.0:
        counts[TOTAL] += 1
        counts[FINAL] += 1
        return DONE
    expect(numbers, counts)
    claim(numbers, counts)
    share = numbers[CLAIMED_SHARE]
    step, objective = kept(numbers, counts, weight)
    remember(numbers, numbers[DISTANCE], weight)
    spread_out(numbers, counts, weight, objective)
    fade_aside(numbers, counts, objective)
    fade_tally(numbers, counts, step, objective)
    merge_posterior(numbers, counts, weight * (1.0 - share))
    give_background(numbers, counts, weight, step, objective)
    if counts[ASIDE] == CLAIMED and share > 0.5:
        place = set_aside(numbers, counts, weight, share)
        if place >= 0:
            drop(numbers, counts, place)
    read_off(numbers, counts)
    counts[ABSORBED] = 0
    if counts[AVERAGES] != 0:
        average_in(numbers, counts, weight)
    return counted(counts)


@machine_code()
def label_full(numbers: Array, counts: Array, row: Array) -> int:
    """The likeliest cluster of a row (D,), or -1 for one that is of no use; nothing is learned."""
    if not moved_in(numbers, counts, row):
        return -1
    label = expect(numbers, counts)
    claim(numbers, counts)
    measure(numbers, counts, block(numbers, counts, MEAN, counts[K], counts[D]), label)
    return label
