"""One row of a mixture whose covariances are diagonal: all its clusters learn it."""

import numpy as np

from stream_em.arrays import LARGEST, Array
from stream_em.kernels.arena import (
    ABSORBED,
    ARRIVED,
    ASIDE,
    AVERAGES,
    CLAIMED,
    CLAIMED_SHARE,
    COVARIANCES,
    DIAGONAL,
    DISTANCE,
    FAR,
    FINAL,
    FIXED,
    FORM,
    JOINT,
    LOG_DETS,
    MEAN,
    N0,
    POSTERIOR,
    PRECISIONS,
    PRIOR,
    READ_MEAN,
    ROW_MEAN,
    ROW_SCATTER,
    SCATTER,
    SQUARES,
    STEP,
    TOTAL,
    D,
    K,
    Z,
    block,
)
from stream_em.kernels.factors import factor_variances
from stream_em.kernels.hard_row import absorb, exchange, is_far, merge_diagonal, tally_diagonal
from stream_em.kernels.machine import machine_code
from stream_em.kernels.mixture_parts import (
    claim,
    give_background,
    is_due,
    join_weights,
    set_prior,
    set_shares,
)
from stream_em.kernels.plain import LOG_2PI
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
    moved_in,
    remember,
    set_aside,
    spread_out,
    total,
)


@machine_code()
def expect(numbers: Array, counts: Array, means: Array) -> int:
    """The E-step of the row in Z under means (K, D): posterior, likelihood, nearest distance."""
    clusters, n = counts[K], counts[D]
    z = block(numbers, counts, Z, 1, n)
    precisions = block(numbers, counts, PRECISIONS, clusters, n)
    log_dets = block(numbers, counts, LOG_DETS, clusters, 1)
    joint = block(numbers, counts, JOINT, clusters, 1)
    least = np.inf
    for k in range(clusters):
        squared = whitened_squared = 0.0
        for d in range(n):
            moved = z[0, d] - means[k, d]
            whitened = moved * precisions[k, d]
            squared += moved * moved
            whitened_squared += whitened * whitened
        joint[k, 0] = log_dets[k, 0] - 0.5 * (n * LOG_2PI + whitened_squared)
        least = min(least, squared)
    numbers[DISTANCE] = least
    return join_weights(numbers, counts)


@machine_code()
def merge_posterior(numbers: Array, counts: Array, weight: float) -> None:
    """Merge the row, tallied by its posterior, into the tally that has been faded."""
    clusters, n = counts[K], counts[D]
    z, means = block(numbers, counts, Z, 1, n), block(numbers, counts, MEAN, clusters, n)
    posterior = block(numbers, counts, POSTERIOR, clusters, 1)
    arrived = block(numbers, counts, ARRIVED, clusters, 1)
    squares = block(numbers, counts, SQUARES, clusters, 1)
    mean = block(numbers, counts, ROW_MEAN, 1, n)
    scatter = block(numbers, counts, ROW_SCATTER, 1, n)
    for k in range(clusters):
        share = posterior[k, 0] * weight
        entered = weight * weight * posterior[k, 0]
        if share > 0.0:
            tally_diagonal(z, 0, means, k, share, mean, scatter)
            merge_diagonal(numbers, counts, k, share, entered)
            arrived[k, 0] += share
        else:
            squares[k, 0] += entered


@machine_code()
def read_off(numbers: Array, counts: Array) -> None:
    """The M-step: shares, and the variances of those clusters whose factors are due."""
    set_shares(numbers, counts)
    if counts[FORM] == FIXED:
        return
    clusters, n, ready = counts[K], counts[D], False
    diagonal = counts[FORM] == DIAGONAL
    arrived = block(numbers, counts, ARRIVED, clusters, 1)
    held = block(numbers, counts, STEP, clusters, 1)
    log_dets = block(numbers, counts, LOG_DETS, clusters, 1)
    precisions = block(numbers, counts, PRECISIONS, clusters, n)
    spread = block(numbers, counts, ROW_SCATTER, 1, n)
    covariances = block(numbers, counts, COVARIANCES, clusters, n if diagonal else 1)
    for k in range(clusters):
        if not is_due(numbers, counts, k):
            continue
        if not ready:
            set_prior(numbers, counts)
            ready = True
        arrived[k, 0] = 0.0
        if diagonal:
            if held[k, 0] > 0.0:
                _variances(numbers, counts, k, covariances)
            log_dets[k, 0] = factor_variances(covariances, k, precisions, k)[0]
            continue
        if held[k, 0] > 0.0:
            covariances[k, 0] = _variance(numbers, counts, k)
        for d in range(n):
            spread[0, d] = covariances[k, 0]
        log_dets[k, 0] = factor_variances(spread, 0, precisions, k)[0]


@machine_code()
def _variances(numbers: Array, counts: Array, k: int, out: Array) -> None:
    """(S_k + n0 Λ)/(N_k + n0) of each feature."""
    scatter = block(numbers, counts, SCATTER, counts[K], counts[D])
    prior = block(numbers, counts, PRIOR, 1, counts[D])
    weight = block(numbers, counts, STEP, counts[K], 1)[k, 0] + numbers[N0]
    for d in range(counts[D]):
        out[k, d] = (scatter[k, d] + numbers[N0] * prior[0, d]) / weight


@machine_code()
def _variance(numbers: Array, counts: Array, k: int) -> float:
    """(tr S_k + n0 tr Λ)/(D (N_k + n0))."""
    n = counts[D]
    scatter = block(numbers, counts, SCATTER, counts[K] * n, 1)
    prior = block(numbers, counts, PRIOR, n, 1)
    sums = total(scatter, k * n, n) + numbers[N0] * total(prior, 0, n)
    return sums / n / (block(numbers, counts, STEP, counts[K], 1)[k, 0] + numbers[N0])


@machine_code()
def learn_soft(numbers: Array, counts: Array, row: Array, weight: float) -> int:
    """Learn a row (D,) of some weight; declined rows leave everything as it was."""
    if not (moved_in(numbers, counts, row) and 0.0 <= weight <= LARGEST):
        return DECLINED
    if weight == 0.0:
        counts[TOTAL] += 1
        counts[FINAL] += 1
        return DONE
    expect(numbers, counts, block(numbers, counts, MEAN, counts[K], counts[D]))
    claim(numbers, counts)
    distance, share = numbers[DISTANCE], numbers[CLAIMED_SHARE]
    far = counts[ASIDE] == FAR and is_far(numbers, counts, distance)
    step, objective = kept(numbers, counts, weight)
    remember(numbers, distance, weight)
    spread_out(numbers, counts, weight, objective)
    fade_aside(numbers, counts, objective)
    if far:
        exchange(numbers, counts, weight, distance, step, objective)
    else:
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
def label_soft(numbers: Array, counts: Array, row: Array) -> int:
    """The likeliest cluster of a row (D,), or -1 for one that is of no use; nothing is learned."""
    if not moved_in(numbers, counts, row):
        return -1
    which = MEAN
    if counts[ASIDE] == FAR:
        absorb(numbers, counts)
        which = READ_MEAN
    means = block(numbers, counts, which, counts[K], counts[D])
    label = expect(numbers, counts, means)
    claim(numbers, counts)
    measure(numbers, counts, means, label)
    return label
