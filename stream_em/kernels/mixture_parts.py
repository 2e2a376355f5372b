"""What all mixtures do with one row: its posterior, the background's claim, the shares."""

import math

from stream_em.arrays import Array
from stream_em.kernels.arena import (
    A0,
    ALL_MEAN,
    ALL_SCATTER,
    ALL_STEP,
    ARRIVED,
    BACKGROUND,
    CLAIM_OBJECTIVE,
    CLAIM_STEP,
    CLAIMED_SHARE,
    HIGH,
    JOINT,
    LEAST_SHARE,
    LOG_LIKELIHOOD,
    LOG_WIDTHS,
    LOW,
    OFFSET,
    POSTERIOR,
    PRIOR,
    REFRESH,
    SHARED,
    SHRINK,
    STEP,
    WEIGHTS,
    WIDTHS,
    D,
    K,
    Z,
    block,
)
from stream_em.kernels.expectations import log_add
from stream_em.kernels.machine import machine_code
from stream_em.kernels.plain import FLOOR, MOST_SHARE, STILL_RATIO
from stream_em.kernels.row_parts import grain, total


@machine_code()
def join_weights(numbers: Array, counts: Array) -> int:
    """Add log π to the log densities in JOINT, and leave the posterior; the likeliest cluster."""
    joint = block(numbers, counts, JOINT, counts[K], 1)
    weights = block(numbers, counts, WEIGHTS, counts[K], 1)
    posterior = block(numbers, counts, POSTERIOR, counts[K], 1)
    best = 0
    for k in range(counts[K]):
        value = joint[k, 0] + math.log(weights[k, 0])
        joint[k, 0] = value if value > FLOOR else FLOOR
        if joint[k, 0] > joint[best, 0]:
            best = k
    top, evidence = joint[best, 0], 0.0
    for k in range(counts[K]):
        posterior[k, 0] = math.exp(joint[k, 0] - top)
        evidence += posterior[k, 0]
    for k in range(counts[K]):
        posterior[k, 0] /= evidence
    numbers[LOG_LIKELIHOOD] = top + math.log(evidence)
    numbers[CLAIMED_SHARE] = 0.0
    return best


@machine_code()
def _log_volume(numbers: Array, counts: Array) -> float:
    """The log volume in nats of the box that the background is uniform over.

    The log of a width is taken anew only when the width has changed.
    """
    n = counts[D]
    low, high = block(numbers, counts, LOW, 1, n), block(numbers, counts, HIGH, 1, n)
    scatter = block(numbers, counts, ALL_SCATTER, 1, n)
    mean = block(numbers, counts, ALL_MEAN, 1, n)
    offset = block(numbers, counts, OFFSET, 1, n)
    widths = block(numbers, counts, WIDTHS, 1, n)
    logs = block(numbers, counts, LOG_WIDTHS, n, 1)
    seen = numbers[ALL_STEP] if numbers[ALL_STEP] > 0.0 else 1.0
    widest = 0.0
    for d in range(n):
        widest = max(widest, scatter[0, d] / seen)
    widest = math.sqrt(widest)
    for d in range(n):
        width = high[0, d] - low[0, d]
        if width <= 2.0 * grain(numbers, offset, mean, d):
            width = widest if widest > 0.0 else 1.0
        width = max(width, 1e-3 * math.sqrt(scatter[0, d] / seen))
        if width != widths[0, d]:
            widths[0, d], logs[d, 0] = width, math.log(width)
    return total(logs, 0, n)


@machine_code()
def claim(numbers: Array, counts: Array) -> None:
    """Turn the likelihood of the clusters into that of the whole, and leave the claimed share."""
    if counts[BACKGROUND] == 0:
        return
    others = total(block(numbers, counts, STEP, counts[K], 1), 0, counts[K])
    both = numbers[CLAIM_STEP] + others
    share = numbers[CLAIM_STEP] / both if both > 0.0 else 0.0
    share = min(max(share, numbers[LEAST_SHARE]), MOST_SHARE)
    beyond = math.log(share) - _log_volume(numbers, counts)
    whole = log_add(numbers[LOG_LIKELIHOOD] + math.log1p(-share), beyond)
    numbers[LOG_LIKELIHOOD] = whole
    numbers[CLAIMED_SHARE] = math.exp(beyond - whole)


@machine_code()
def give_background(
    numbers: Array, counts: Array, weight: float, step: float, objective: float
) -> None:
    """The background's tally, faded, takes its share of the row; its ranges reach the row."""
    if counts[BACKGROUND] == 0:
        return
    n, mass = counts[D], weight * numbers[CLAIMED_SHARE]
    numbers[CLAIM_STEP] = step * numbers[CLAIM_STEP] + mass
    numbers[CLAIM_OBJECTIVE] = objective * numbers[CLAIM_OBJECTIVE] + mass
    low, high = block(numbers, counts, LOW, 1, n), block(numbers, counts, HIGH, 1, n)
    z = block(numbers, counts, Z, 1, n)
    for d in range(n):
        low[0, d], high[0, d] = min(low[0, d], z[0, d]), max(high[0, d], z[0, d])


@machine_code()
def set_shares(numbers: Array, counts: Array) -> None:
    """The mixing weights of the tally."""
    if counts[SHARED] != 0:
        return
    steps = block(numbers, counts, STEP, counts[K], 1)
    weights = block(numbers, counts, WEIGHTS, counts[K], 1)
    for k in range(counts[K]):
        weights[k, 0] = steps[k, 0] + numbers[A0]
    whole = total(weights, 0, counts[K])
    for k in range(counts[K]):
        weights[k, 0] = weights[k, 0] / whole if whole > 0.0 else 1.0 / counts[K]


@machine_code()
def is_due(numbers: Array, counts: Array, k: int) -> bool:
    """Whether the factor of a cluster has waited for long enough, in weight that arrived."""
    arrived = block(numbers, counts, ARRIVED, counts[K], 1)
    held = block(numbers, counts, STEP, counts[K], 1)
    return numbers[REFRESH] <= 0.0 or arrived[k, 0] > numbers[REFRESH] * held[k, 0]


@machine_code()
def set_prior(numbers: Array, counts: Array) -> None:
    """The diagonal of the prior's covariance, from the floored variance of all rows."""
    n, top = counts[D], 0.0
    mean = block(numbers, counts, ALL_MEAN, 1, n)
    scatter = block(numbers, counts, ALL_SCATTER, 1, n)
    offset = block(numbers, counts, OFFSET, 1, n)
    prior = block(numbers, counts, PRIOR, 1, n)
    seen = numbers[ALL_STEP] if numbers[ALL_STEP] > 0.0 else 1.0
    for d in range(n):
        least = grain(numbers, offset, mean, d)
        variance = scatter[0, d] / seen
        prior[0, d] = variance if variance > least * least else 0.0
        top = max(top, prior[0, d])
    for d in range(n):
        variance = prior[0, d]
        if variance == 0.0:
            variance = STILL_RATIO * top if top > 0.0 else 1.0
        prior[0, d] = numbers[SHRINK] * variance
