"""How well the model fits rows it has not learned yet, and what repairs it needed.

All sums are prequential: rows are scored before their own update.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from stream_em.metrics.catalogue import CHANGES, INTERVENTIONS
from stream_em.metrics.counting import added, zeros
from stream_em.state import Info

UNKNOWN = float("nan")


class Average(NamedTuple):
    """An exponentially weighted mean: sums of values and of weights, faded alike."""

    total: float = 0.0
    weight: float = 0.0

    @property
    def value(self) -> float:
        """The mean, NaN while there is no weight."""
        return self.total / self.weight if self.weight > 0 else UNKNOWN


class Quality(NamedTuple):
    """Sums over rows in the model's units and nats; averages are per unit of weight."""

    objective_sum: float  # Σ w·squared distance, exact, since the process began
    weight: float  # Σw behind it
    objective: Average
    log_likelihood: Average  # without weight for k-means, like the next two
    free_energy: Average
    entropy: Average
    batch_objective: float  # per event of the last batch, NaN before one
    batch_log_likelihood: float
    interventions: Mapping[str, int]  # kind -> times
    changes: Mapping[str, int]  # kind -> times


def nothing_scored() -> Quality:
    """The quality before any row."""
    none = Average()
    repairs, changes = zeros(INTERVENTIONS, 0), zeros(CHANGES, 0)
    return Quality(0.0, 0.0, none, none, none, none, UNKNOWN, UNKNOWN, repairs, changes)


def scored(held: Quality, info: Info, half_life_events: float) -> Quality:
    """The quality after one more step."""
    if info.interventions or info.changes:
        held = held._replace(
            interventions=added(held.interventions, Counter(info.interventions)),
            changes=added(held.changes, Counter(change.kind for change in info.changes)),
        )
    weight = info.weight
    if not weight > 0:
        return held
    keep = 0.5 ** (weight / half_life_events)
    exact = _finite(info.objective)
    return held._replace(
        objective_sum=held.objective_sum + (info.objective if exact else 0.0),
        weight=held.weight + (weight if exact else 0.0),
        objective=_faded(held.objective, info.objective, weight, keep),
        log_likelihood=_faded(held.log_likelihood, info.log_likelihood, weight, keep),
        free_energy=_faded(held.free_energy, info.free_energy, weight, keep),
        entropy=_faded(held.entropy, info.entropy, weight, keep),
        batch_objective=info.objective / weight,
        batch_log_likelihood=info.log_likelihood / weight,
    )


def _faded(held: Average, total: float, weight: float, keep: float) -> Average:
    """The average after a sum that came with `weight`; one that is no number leaves it be."""
    if not _finite(total):
        return held
    return Average(held.total * keep + total, held.weight * keep + weight)


def _finite(value: float) -> bool:
    return value - value == 0.0
