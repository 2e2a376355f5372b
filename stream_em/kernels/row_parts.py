"""What a step of one row does to its tallies, in the very order of the kernels for batches.

Each sum is taken as NumPy or the kernels for batches take it, so that n single rows leave
the bits that n batches of one row leave.
"""

import math

import numpy as np

from stream_em.arrays import LARGEST, Array
from stream_em.kernels.arena import (
    ALL_MEAN,
    ALL_OBJECTIVE,
    ALL_SCATTER,
    ALL_SQUARES,
    ALL_STEP,
    ALPHA,
    ARRIVALS,
    ASIDE_ROWS,
    ASIDE_SCORES,
    ASIDE_WEIGHTS,
    AVERAGE_MEAN,
    AVERAGE_OBJECTIVE,
    AVERAGE_SCATTER,
    AVERAGE_SQUARES,
    AVERAGE_STEP,
    BASE,
    CAPACITY,
    CELLS,
    CLIP,
    CLOCK,
    DELTA,
    DIGITS,
    DISTANCE,
    EVENTS,
    EVERY,
    FINAL,
    FORM,
    FULL,
    GROUPS,
    HALF_LIFE,
    LEARNED,
    MEAN,
    MEMORY,
    OBJECTIVE,
    OFFSET,
    ORIGIN,
    POLICY,
    POOLED,
    POWER,
    POWER_WINDOW,
    SCATTER,
    SINCE,
    SMALLEST,
    SQUARES,
    STEP,
    TIED,
    TOTAL,
    TYPICAL,
    TYPICAL_WEIGHT,
    UNIT,
    WAITING,
    WINDOW,
    D,
    K,
    Z,
    block,
)
from stream_em.kernels.machine import machine_code
from stream_em.kernels.plain import REACH

DONE, TICK, DECLINED = range(3)  # what a call says of its row
PAIRWISE = 128  # numbers that NumPy adds in eight lanes before it halves a sum


@machine_code()
def _lanes(values: Array, start: int, n: int) -> float:
    """The sum of n numbers, at most PAIRWISE of them, in eight lanes."""
    out = -0.0
    if n < 8:
        for i in range(start, start + n):
            out += values[i, 0]
        return out
    a, b, c, d = values[start, 0], values[start + 1, 0], values[start + 2, 0], values[start + 3, 0]
    e, f = values[start + 4, 0], values[start + 5, 0]
    g, h = values[start + 6, 0], values[start + 7, 0]
    rest = start + n - n % 8
    for i in range(start + 8, rest, 8):
        a += values[i, 0]
        b += values[i + 1, 0]
        c += values[i + 2, 0]
        d += values[i + 3, 0]
        e += values[i + 4, 0]
        f += values[i + 5, 0]
        g += values[i + 6, 0]
        h += values[i + 7, 0]
    out = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(rest, start + n):
        out += values[i, 0]
    return out


@machine_code()
def total(values: Array, start: int, size: int) -> float:
    """The sum of numbers of a column (m, 1), as NumPy adds: in halves, then in eight lanes."""
    if size <= PAIRWISE:
        return _lanes(values, start, size)
    parts, sums = np.zeros((64, 3), np.int64), np.zeros((64, 2))
    parts[0, 0], parts[0, 1], waiting, found = start, size, 1, 0
    while waiting > 0:
        waiting -= 1
        first, n, depth = parts[waiting, 0], parts[waiting, 1], parts[waiting, 2]
        if n > PAIRWISE:
            half = n // 2
            half -= half % 8
            parts[waiting, 0], parts[waiting, 1] = first + half, n - half
            parts[waiting + 1, 0], parts[waiting + 1, 1] = first, half
            parts[waiting, 2] = parts[waiting + 1, 2] = depth + 1
            waiting += 2
            continue
        sums[found, 0], sums[found, 1] = _lanes(values, first, n), depth
        while found > 0 and sums[found - 1, 1] == sums[found, 1]:
            found -= 1
            sums[found, 0] += sums[found + 1, 0]
            sums[found, 1] -= 1
        found += 1
    return sums[0, 0]


@machine_code()
def moved_in(numbers: Array, counts: Array, row: Array) -> bool:
    """Put a row (D,) into the model's coordinates; whether it is complete and of use."""
    n = counts[D]
    if len(row) != n:
        return False
    z, origin = block(numbers, counts, Z, 1, n), block(numbers, counts, ORIGIN, 1, n)
    unit = block(numbers, counts, UNIT, 1, n)
    usable = True
    for d in range(n):
        usable &= abs(row[d]) <= LARGEST  # false for NaN
        z[0, d] = (row[d] - origin[0, d]) / unit[0, d]
    return usable


@machine_code()
def measure(numbers: Array, counts: Array, means: Array, label: int) -> None:
    """Leave in DISTANCE the squared distance of the row in Z to one of means (K, D)."""
    z, squared = block(numbers, counts, Z, 1, counts[D]), 0.0
    for d in range(counts[D]):
        moved = z[0, d] - means[label, d]
        squared += moved * moved
    numbers[DISTANCE] = squared


@machine_code()
def kept(numbers: Array, counts: Array, weight: float) -> tuple[float, float]:
    """The retentions of a step of some weight; moves the schedule's window on."""
    held = numbers[WINDOW]
    step = objective = 1.0
    if counts[POLICY] == POWER_WINDOW and held > 0.0:
        n, least = numbers[CLOCK] + weight, numbers[SMALLEST]
        window = n if n < least else least * (n / least) ** numbers[ALPHA]
        step = min(max((max(window, 2.0 * weight) - weight) / held, 0.0), 1.0)
    elif counts[POLICY] == HALF_LIFE:
        step = objective = numbers[BASE] ** (-weight / numbers[EVENTS])
    numbers[WINDOW] = step * held + weight
    numbers[CLOCK] += weight
    return step, objective


@machine_code()
def typical(numbers: Array) -> float:
    """The running mean squared distance; 0 while nothing is known."""
    weight = numbers[TYPICAL_WEIGHT]
    return numbers[TYPICAL] / weight if weight > 0.0 else 0.0


@machine_code()
def remember(numbers: Array, distance: float, weight: float) -> None:
    """Move the running mean squared distance on by one row."""
    mean = typical(numbers)
    clip = numbers[CLIP] * mean if mean > 0.0 else np.inf
    numbers[TYPICAL] = numbers[MEMORY] * numbers[TYPICAL] + weight * min(distance, clip)
    numbers[TYPICAL_WEIGHT] = numbers[MEMORY] * numbers[TYPICAL_WEIGHT] + weight


@machine_code()
def fade_tally(numbers: Array, counts: Array, step: float, objective: float) -> None:
    """Fade the weights and scatters of all clusters; their means stay."""
    steps, events = block(numbers, counts, STEP, counts[K], 1), counts[K]
    objectives = block(numbers, counts, OBJECTIVE, counts[K], 1)
    squares = block(numbers, counts, SQUARES, counts[K], 1)
    scatter = block(numbers, counts, SCATTER, counts[GROUPS], counts[CELLS])
    squared = step * step
    for k in range(events):
        steps[k, 0] *= step
        objectives[k, 0] *= objective
        squares[k, 0] *= squared
    for k in range(counts[GROUPS]):
        for cell in range(counts[CELLS]):
            scatter[k, cell] *= step


@machine_code()
def grain(numbers: Array, offset: Array, mean: Array, d: int) -> float:
    """The deviation below which a feature is constant to rounding."""
    return numbers[DIGITS] * (offset[0, d] + abs(mean[0, d]))


@machine_code()
def moderated(value: float, mean: float, variance: float, least: float) -> float:
    """A value, drawn back to ten deviations from the mean where there is a deviation."""
    if not variance > least * least:
        return value
    far = REACH * math.sqrt(variance)
    return min(max(value, mean - far), mean + far)


@machine_code()
def spread_out(numbers: Array, counts: Array, weight: float, objective: float) -> None:
    """Merge the row into the tally of all rows as one cluster."""
    n = counts[D]
    z = block(numbers, counts, Z, 1, n)
    mean = block(numbers, counts, ALL_MEAN, 1, n)
    scatter = block(numbers, counts, ALL_SCATTER, 1, n)
    offset = block(numbers, counts, OFFSET, 1, n)
    seen = numbers[ALL_STEP] if numbers[ALL_STEP] > 0.0 else 1.0
    left = numbers[ALL_STEP] * objective
    both = left + weight
    ratio, between = weight / both, left * weight / both
    for d in range(n):
        value = moderated(
            z[0, d], mean[0, d], scatter[0, d] / seen, grain(numbers, offset, mean, d)
        )
        own = weight * value / weight
        about = value - own
        moved = own - mean[0, d]
        merged = mean[0, d] + ratio * moved
        mean[0, d] = merged if left > 0.0 else own
        sums = scatter[0, d] * objective + weight * (about * about)
        scatter[0, d] = sums + between * (moved * moved)
    numbers[ALL_STEP] = both
    numbers[ALL_OBJECTIVE] = numbers[ALL_OBJECTIVE] * objective + weight
    squares = numbers[ALL_SQUARES] * (objective * objective)
    numbers[ALL_SQUARES] = squares + weight * weight


@machine_code()
def merge_mean(
    means: Array, k: int, left: float, right: float, other: Array, row: int, delta: Array
) -> float:
    """Merge a row of `other` (m, D) of weight `right` into the mean of k, of weight `left`.

    The move between the two is left in delta (1, D); the answer is left·right/(left + right),
    by which its products enter the scatter.
    """
    both = left + right
    safe = both if both > 0.0 else 1.0
    ratio = right / safe
    for d in range(means.shape[1]):
        mean = other[row, d]
        moved = mean - means[k, d]
        delta[0, d] = moved
        if left > 0.0:
            means[k, d] += ratio * moved
        elif right > 0.0:
            means[k, d] = mean
    return left * right / safe


@machine_code()
def add_outer(out: Array, k: int, between: float, delta: Array) -> None:
    """Add between·δδᵀ to the matrix in row k of out (G, D²); delta (1, D)."""
    n = delta.shape[1]
    for i in range(n):
        scaled = between * delta[0, i]
        for j in range(n):
            out[k, i * n + j] += scaled * delta[0, j]


@machine_code()
def average_in(numbers: Array, counts: Array, weight: float) -> None:
    """Move the averaged tally on: avg ← keep·avg + (1 - keep)·current, both of unit weight."""
    n, clusters = numbers[CLOCK] - numbers[SINCE], counts[K]
    keep = max((n - weight) / n, 0.0) ** numbers[POWER]
    rest = 1.0 - keep
    objectives = block(numbers, counts, OBJECTIVE, clusters, 1)
    events = total(objectives, 0, clusters)
    norm = 1.0 / numbers[WINDOW] if numbers[WINDOW] > 0.0 else 0.0
    norm_events = 1.0 / events if events > 0.0 else 0.0
    steps = block(numbers, counts, STEP, clusters, 1)
    squares = block(numbers, counts, SQUARES, clusters, 1)
    means = block(numbers, counts, MEAN, clusters, counts[D])
    to_steps = block(numbers, counts, AVERAGE_STEP, clusters, 1)
    to_objectives = block(numbers, counts, AVERAGE_OBJECTIVE, clusters, 1)
    to_squares = block(numbers, counts, AVERAGE_SQUARES, clusters, 1)
    to_means = block(numbers, counts, AVERAGE_MEAN, clusters, counts[D])
    delta = block(numbers, counts, DELTA, 1, counts[D])
    scatter = block(numbers, counts, SCATTER, counts[GROUPS], counts[CELLS])
    to_scatter = block(numbers, counts, AVERAGE_SCATTER, counts[GROUPS], counts[CELLS])
    pooled = block(numbers, counts, POOLED, 1, counts[CELLS])
    tied, diagonal = counts[FORM] == TIED, counts[FORM] != TIED and counts[FORM] != FULL
    for g in range(counts[GROUPS]):
        for cell in range(counts[CELLS]):
            own = scatter[g, cell] * norm * rest
            to_scatter[g, cell] = to_scatter[g, cell] * keep + own
    for cell in range(counts[CELLS] if tied else 0):
        pooled[0, cell] = 0.0
    for k in range(clusters):
        left, right = to_steps[k, 0] * keep, steps[k, 0] * norm * rest
        between = merge_mean(to_means, k, left, right, means, k, delta)
        if diagonal:
            for d in range(counts[D]):
                to_scatter[k, d] += between * (delta[0, d] * delta[0, d])
        elif tied:
            add_outer(pooled, 0, between, delta)
        else:
            add_outer(to_scatter, k, between, delta)
        to_steps[k, 0] = left + right
        of_row = objectives[k, 0] * norm_events * rest
        to_objectives[k, 0] = to_objectives[k, 0] * keep + of_row
        of_row = squares[k, 0] * (norm * norm) * (rest * rest)
        to_squares[k, 0] = to_squares[k, 0] * (keep * keep) + of_row
    for cell in range(counts[CELLS] if tied else 0):
        to_scatter[0, cell] += pooled[0, cell]


@machine_code()
def set_aside(numbers: Array, counts: Array, weight: float, score: float) -> int:
    """Let the row wait with its score; the place of the one that must go for it, or -1.

    Places run over those that wait, and then the row itself. Where there is no room the one
    of least score goes, the latest of equal ones.
    """
    waiting, n, capacity = counts[WAITING], counts[D], counts[CAPACITY]
    rows = block(numbers, counts, ASIDE_ROWS, capacity + 1, n)
    weights = block(numbers, counts, ASIDE_WEIGHTS, capacity + 1, 1)
    scores = block(numbers, counts, ASIDE_SCORES, capacity + 1, 1)
    z = block(numbers, counts, Z, 1, n)
    for d in range(n):
        rows[waiting, d] = z[0, d]
    weights[waiting, 0], scores[waiting, 0] = weight, score
    counts[ARRIVALS + waiting] = counts[LEARNED]
    counts[WAITING] = waiting + 1
    if waiting < capacity:
        return -1
    least = 0
    for i in range(1, waiting + 1):
        if scores[i, 0] <= scores[least, 0]:
            least = i
    return least


@machine_code()
def drop(numbers: Array, counts: Array, place: int) -> None:
    """Let one of the rows that wait go."""
    n, last, room = counts[D], counts[WAITING] - 1, counts[CAPACITY] + 1
    rows = block(numbers, counts, ASIDE_ROWS, room, n)
    weights = block(numbers, counts, ASIDE_WEIGHTS, room, 1)
    scores = block(numbers, counts, ASIDE_SCORES, room, 1)
    for i in range(place, last):
        for d in range(n):
            rows[i, d] = rows[i + 1, d]
        weights[i, 0], scores[i, 0] = weights[i + 1, 0], scores[i + 1, 0]
        counts[ARRIVALS + i] = counts[ARRIVALS + i + 1]
    counts[WAITING] = last


@machine_code()
def fade_aside(numbers: Array, counts: Array, objective: float) -> None:
    """Fade the weights of the rows that wait, like events."""
    if objective != 1.0:
        weights = block(numbers, counts, ASIDE_WEIGHTS, counts[CAPACITY] + 1, 1)
        for i in range(counts[WAITING]):
            weights[i, 0] *= objective


@machine_code()
def counted(counts: Array) -> int:
    """Count the row as learned: whether a tick is due, for which rows wait."""
    counts[LEARNED] += 1
    counts[TOTAL] += 1
    counts[FINAL] += 1
    every = counts[EVERY]
    if counts[WAITING] > 0 and counts[LEARNED] > every and counts[LEARNED] % every == 0:
        return TICK
    return DONE
