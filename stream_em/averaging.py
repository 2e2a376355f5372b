"""Averaged statistics: a second model, reported beside the first and never fed back.

Polynomial-decay averaging (Shamir & Zhang 2013) of normalised statistics with η = 3: after
n' events since seeding the weight of a step is ∝ n'³, exactly for any cut. It takes the
noise out of the last iterate where noise is all that is left.
"""

from stream_em import moments
from stream_em.moments import Moments, Retentions
from stream_em.state import Averaged, State

POWER = 4  # η + 1


def normalising(state: State, held: Moments) -> Retentions:
    """What makes the state's tally one of unit weight."""
    objective = float(held.objective.sum())
    return Retentions(
        1 / state.window.weight if state.window.weight > 0 else 0.0,
        1 / objective if objective > 0 else 0.0,
    )


def averaged(state: State, arrived: float) -> Averaged | None:
    """The average after a step of weight `arrived` that led to `state`.

    avg ← (1 - a)·avg + a·s with a = 1 - ((n' - m)/n')⁴.
    """
    if state.moments is None or state.averaged is None or arrived <= 0:
        return state.averaged
    n = state.window.clock - state.averaged.since
    kept = max((n - arrived) / n, 0.0) ** POWER
    current = moments.fade(state.moments, normalising(state, state.moments))
    merged = moments.merge(
        moments.fade(state.averaged.moments, Retentions(kept, kept)),
        moments.fade(current, Retentions(1 - kept, 1 - kept)),
    )
    return Averaged(merged, state.averaged.since)


def opened(state: State) -> Averaged | None:
    """The average of a state whose clusters were just seeded: the seeds themselves."""
    if state.moments is None:
        return None
    seeds = moments.fade(state.moments, normalising(state, state.moments))
    return Averaged(seeds, state.window.clock)


def weighed(state: State) -> Moments | None:
    """The averaged tally with the weights of the current one, so that a prior keeps its say."""
    if state.averaged is None or state.moments is None:
        return None
    objective = float(state.moments.objective.sum())
    return moments.fade(state.averaged.moments, Retentions(state.window.weight, objective))
