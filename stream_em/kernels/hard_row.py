"""One row of k-means: its nearest cluster learns it, or it waits aside."""

from stream_em.arrays import LARGEST, Array
from stream_em.kernels.arena import (
    ABSORBED,
    ASIDE,
    ASIDE_ROWS,
    ASIDE_WEIGHTS,
    AVERAGES,
    BAR,
    CAPACITY,
    CELLS,
    DELTA,
    DISTANCE,
    EVERY,
    FINAL,
    GROUPS,
    LEARNED,
    MEAN,
    NONE,
    OBJECTIVE,
    READ_MEAN,
    READ_WEIGHT,
    ROW_MEAN,
    ROW_SCATTER,
    SCATTER,
    SQUARES,
    STEP,
    TOTAL,
    WAITING,
    D,
    K,
    Z,
    block,
)
from stream_em.kernels.machine import machine_code
from stream_em.kernels.plain import IDLE, RECENTRE
from stream_em.kernels.row_parts import (
    DECLINED,
    DONE,
    average_in,
    counted,
    drop,
    fade_aside,
    fade_tally,
    kept,
    merge_mean,
    moved_in,
    remember,
    set_aside,
    spread_out,
    total,
    typical,
)


@machine_code()
def nearest(numbers: Array, means: Array, row: Array, place: int) -> int:
    """The nearest of means (K, D) to a row of `row`; its squared distance is left in DISTANCE."""
    label, least = 0, 0.0
    for k in range(len(means)):
        squared = 0.0
        for d in range(means.shape[1]):
            moved = row[place, d] - means[k, d]
            squared += moved * moved
        if k == 0 or squared < least:
            label, least = k, squared
    numbers[DISTANCE] = least
    return label


@machine_code()
def tally_diagonal(
    row: Array, place: int, centres: Array, k: int, weight: float, mean: Array, scatter: Array
) -> None:
    """The tally of one row of some weight about the centre of k: mean and scatter (1, D)."""
    removed = left = 0.0
    for d in range(row.shape[1]):
        moved = row[place, d] - centres[k, d]
        delta = weight * moved / weight
        about = weight * (delta * delta)
        mean[0, d] = centres[k, d] + delta
        scatter[0, d] = weight * moved * moved - about
        removed += about
        left += scatter[0, d]
    if removed > RECENTRE * left:
        for d in range(row.shape[1]):
            moved = row[place, d] - mean[0, d]
            scatter[0, d] = weight * moved * moved
    for d in range(row.shape[1]):
        scatter[0, d] = max(scatter[0, d], 0.0)


@machine_code()
def merge_diagonal(numbers: Array, counts: Array, k: int, weight: float, squares: float) -> None:
    """Merge the tally in ROW_MEAN and ROW_SCATTER into cluster k, already faded."""
    n, clusters = counts[D], counts[K]
    steps = block(numbers, counts, STEP, clusters, 1)
    objectives = block(numbers, counts, OBJECTIVE, clusters, 1)
    means = block(numbers, counts, MEAN, clusters, n)
    scatter = block(numbers, counts, SCATTER, counts[GROUPS], counts[CELLS])
    delta = block(numbers, counts, DELTA, 1, n)
    own = block(numbers, counts, ROW_SCATTER, 1, n)
    other = block(numbers, counts, ROW_MEAN, 1, n)
    between = merge_mean(means, k, steps[k, 0], weight, other, 0, delta)
    for d in range(n):
        scatter[k, d] = scatter[k, d] + own[0, d] + between * (delta[0, d] * delta[0, d])
    steps[k, 0] += weight
    objectives[k, 0] += weight
    block(numbers, counts, SQUARES, clusters, 1)[k, 0] += squares


@machine_code()
def learn_hard(numbers: Array, counts: Array, row: Array, weight: float) -> int:
    """Learn a row (D,) of some weight; declined rows leave everything as it was."""
    if not (moved_in(numbers, counts, row) and 0.0 <= weight <= LARGEST):
        return DECLINED
    if weight == 0.0:
        counts[TOTAL] += 1
        counts[FINAL] += 1
        return DONE
    z = block(numbers, counts, Z, 1, counts[D])
    means = block(numbers, counts, MEAN, counts[K], counts[D])
    label = nearest(numbers, means, z, 0)
    distance = numbers[DISTANCE]
    far = is_far(numbers, counts, distance)
    step, objective = kept(numbers, counts, weight)
    remember(numbers, distance, weight)
    spread_out(numbers, counts, weight, objective)
    fade_aside(numbers, counts, objective)
    if far:
        exchange(numbers, counts, weight, distance, step, objective)
    else:
        mean = block(numbers, counts, ROW_MEAN, 1, counts[D])
        scatter = block(numbers, counts, ROW_SCATTER, 1, counts[D])
        tally_diagonal(z, 0, means, label, weight, mean, scatter)
        fade_tally(numbers, counts, step, objective)
        merge_diagonal(numbers, counts, label, weight, weight * weight)
    counts[ABSORBED] = 0
    if counts[AVERAGES] != 0:
        average_in(numbers, counts, weight)
    return counted(counts)


@machine_code()
def is_far(numbers: Array, counts: Array, distance: float) -> bool:
    """Whether a row at this squared distance has to wait."""
    if counts[ASIDE] == NONE or counts[LEARNED] < counts[EVERY]:
        return False
    mean = typical(numbers)
    if not mean > 0.0:
        return False
    return distance > numbers[BAR] * mean or (distance > mean and _idle(numbers, counts))


@machine_code()
def _idle(numbers: Array, counts: Array) -> bool:
    """Whether some cluster holds next to none of the events."""
    events = block(numbers, counts, OBJECTIVE, counts[K], 1)
    least = events[0, 0]
    for k in range(1, counts[K]):
        least = min(least, events[k, 0])
    return least * counts[K] <= IDLE * total(events, 0, counts[K])


@machine_code()
def exchange(
    numbers: Array, counts: Array, weight: float, distance: float, step: float, objective: float
) -> None:
    """Let the row wait; one for which there is no room is learned by its nearest cluster."""
    n, room = counts[D], counts[CAPACITY] + 1
    place = set_aside(numbers, counts, weight, distance)
    if place < 0:
        fade_tally(numbers, counts, step, objective)
        return
    rows = block(numbers, counts, ASIDE_ROWS, room, n)
    own = block(numbers, counts, ASIDE_WEIGHTS, room, 1)[place, 0]
    means = block(numbers, counts, MEAN, counts[K], n)
    label = nearest(numbers, means, rows, place)
    mean = block(numbers, counts, ROW_MEAN, 1, n)
    tally_diagonal(rows, place, means, label, own, mean, block(numbers, counts, ROW_SCATTER, 1, n))
    fade_tally(numbers, counts, step, objective)
    merge_diagonal(numbers, counts, label, own, own * own)
    drop(numbers, counts, place)


@machine_code()
def absorb(numbers: Array, counts: Array) -> None:
    """Leave in READ_MEAN the means with the rows that wait merged into their nearest clusters."""
    if counts[ABSORBED] != 0:
        return
    counts[ABSORBED] = 1
    n, clusters, room = counts[D], counts[K], counts[CAPACITY] + 1
    means = block(numbers, counts, MEAN, clusters, n)
    steps = block(numbers, counts, STEP, clusters, 1)
    rows = block(numbers, counts, ASIDE_ROWS, room, n)
    weights = block(numbers, counts, ASIDE_WEIGHTS, room, 1)
    out = block(numbers, counts, READ_MEAN, clusters, n)
    taken = block(numbers, counts, READ_WEIGHT, clusters, 1)
    delta = block(numbers, counts, DELTA, 1, n)
    for k in range(clusters):
        taken[k, 0] = steps[k, 0]
        for d in range(n):
            out[k, d] = means[k, d]
    for i in range(counts[WAITING]):
        k = nearest(numbers, means, rows, i)
        merge_mean(out, k, taken[k, 0], weights[i, 0], rows, i, delta)
        taken[k, 0] += weights[i, 0]


@machine_code()
def label_hard(numbers: Array, counts: Array, row: Array) -> int:
    """The nearest cluster to a row (D,), or -1 for one that is of no use; nothing is learned."""
    if not moved_in(numbers, counts, row):
        return -1
    absorb(numbers, counts)
    means = block(numbers, counts, READ_MEAN, counts[K], counts[D])
    return nearest(numbers, means, block(numbers, counts, Z, 1, counts[D]), 0)
