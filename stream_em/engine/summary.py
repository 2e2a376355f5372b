"""What a run did, in numbers."""

import math
from dataclasses import dataclass
from typing import final

from stream_em.state import Info


@final
@dataclass(frozen=True)
class Summary:
    """The end of a run. Plain values: `dataclasses.asdict` of it is JSON.

    Averages are per event of this run, weighted, scored before each row's own update;
    None where nothing was scored, and for k-means where there is no density.
    """

    events: int  # rows accepted in this run: learned, held, weight 0 included
    total_events: int  # rows accepted since the model began
    rejected: int  # records rejected in this run
    total_rejected: int  # since the model began: rows in = total_events + total_rejected
    batches: int
    seconds: float  # first fetch to the last applied batch and its checkpoint
    objective_per_event: float | None  # squared distance to the nearest mean
    log_likelihood_nats_per_event: float | None
    free_energy_nats_per_event: float | None
    clusters: int  # live
    checkpoints: int  # written in this run, checkpoint 0 not counted
    resumed_from: str | None  # name of the checkpoint
    stopped_by: str  # "end", "max_events" or "signal"


@final
class Totals:
    """Sums over the batches of a run."""

    def __init__(self) -> None:
        self.events = self.rejected = self.batches = 0
        self.weight = self.objective = self.log_likelihood = self.free_energy = 0.0

    def note(self, events: int, rejected: int, info: Info) -> None:
        """Take one batch in."""
        self.events += events
        self.rejected += rejected
        self.batches += 1
        if info.weight > 0:
            self.weight += info.weight
            self.objective += info.objective
            self.log_likelihood += info.log_likelihood
            self.free_energy += info.free_energy

    def per_event(self, total: float) -> float | None:
        """A sum as an average; None where there is none."""
        if not self.weight > 0 or math.isnan(total):
            return None
        return total / self.weight
