"""How a run is going, on stderr: a bar, a status line, or a log line now and then."""

import logging
import math
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, final

if TYPE_CHECKING:
    from stream_em.metrics.snapshot import Snapshot

log = logging.getLogger(__name__)

REFRESH_SECONDS = 0.1
RATE_SECONDS = 2.0  # events/s are taken over this long: shorter shows the batches' own beat


class Figures(NamedTuple):
    """What a display shows of a run."""

    events: int  # rows accepted since the model began
    read_bytes: int
    left_bytes: float  # NaN: an input without end
    objective: float  # J per event, weighted; NaN before there is any
    log_likelihood: float  # nats per event, weighted; NaN for k-means
    checkpoint: float  # unix seconds of the last one, NaN before it


def figures_of(snapshot: "Snapshot") -> Figures:
    """What a snapshot says of the run."""
    return Figures(
        events=snapshot.published.version,
        read_bytes=snapshot.input.bytes,
        left_bytes=snapshot.input.lag_bytes,
        objective=snapshot.quality.objective.value,
        log_likelihood=snapshot.quality.log_likelihood.value,
        checkpoint=snapshot.checkpoints.last_success,
    )


class Display(ABC):
    """A way of showing figures. Subclasses are final."""

    every_seconds: float
    lasting: ClassVar[bool]  # what it shows last stays to be seen

    @abstractmethod
    def show(self, figures: Figures, rate: float) -> None:
        """Show the figures; `rate` is in events/s."""

    @abstractmethod
    def close(self) -> None:
        """Leave the terminal tidy."""


@final
class Bar(Display):
    """A rich progress bar: for inputs with an end."""

    lasting = True
    every_seconds = REFRESH_SECONDS

    def __init__(self, console: Any) -> None:
        from rich import progress

        self._bar = progress.Progress(
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.description}"),
            progress.TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._bar.start()

    def show(self, figures: Figures, rate: float) -> None:
        """Move the bar."""
        self._bar.update(
            self._task,
            completed=figures.read_bytes,
            total=figures.read_bytes + figures.left_bytes,
            description=described(figures, rate),
        )

    def close(self) -> None:
        """Leave the bar as it is and give the cursor back."""
        self._bar.stop()


@final
class Status(Display):
    """One line that is written over: for inputs without an end."""

    lasting = False
    every_seconds = 0.5

    def __init__(self, console: Any) -> None:
        self._status = console.status("starting")
        self._status.start()

    def show(self, figures: Figures, rate: float) -> None:
        """Write the line anew."""
        age = time.time() - figures.checkpoint
        saved = "" if math.isnan(age) else f"  checkpoint {age:.0f} s ago"
        self._status.update(described(figures, rate) + saved)

    def close(self) -> None:
        """Take the line away."""
        self._status.stop()


@final
class LogLines(Display):
    """A log line now and then: where stderr is no terminal."""

    lasting = False

    def __init__(self, every_seconds: float) -> None:
        self.every_seconds = every_seconds

    def show(self, figures: Figures, rate: float) -> None:
        """Log the figures."""
        fields = {
            "events": figures.events,
            "events_per_second": round(rate),
            "objective_per_event": round(figures.objective, 6),
            "log_likelihood_nats_per_event": round(figures.log_likelihood, 6),
        }
        log.info("running", extra={**fields, "words": described(figures, rate)})

    def close(self) -> None:
        """Nothing is left behind."""


def described(figures: Figures, rate: float) -> str:
    """The figures in a few words.

    >>> described(Figures(12000, 1, 0, 1.25, -3.5, 0), 50_000)
    '12,000 events  50,000/s  J 1.25  log-likelihood -3.5'
    """
    words = [f"{figures.events:,} events", f"{rate:,.0f}/s"]
    if not math.isnan(figures.objective):
        words.append(f"J {figures.objective:.4g}")
    if not math.isnan(figures.log_likelihood):
        words.append(f"log-likelihood {figures.log_likelihood:.4g}")
    return "  ".join(words)


@final
class Watch:
    """Takes the engine's snapshots and passes some of them on to a display."""

    def __init__(self, log_seconds: float) -> None:
        self._log_seconds = log_seconds
        self.display: Display | None = None  # chosen once the input is known
        self._latest: Figures | None = None
        self._next = 0.0  # monotonic seconds: when to show the next figures
        self._past: deque[tuple[float, int]] = deque()  # monotonic seconds, events
        self._state = ""

    def __call__(self, snapshot: "Snapshot") -> None:
        """Called once per batch."""
        now = time.monotonic()
        begins = snapshot.state == "running" != self._state  # what a checkpoint knew is no news
        if begins or not self._past:
            self._past = deque([(now, snapshot.published.version)])
        self._state = snapshot.state
        if not snapshot.input.connected:
            return  # whether the input has an end is not known yet
        self._latest = figures_of(snapshot)
        if self.display is None:
            self.display = self._chosen(self._latest)
            self._next = now + min(self.display.every_seconds, 1.0)
        if now >= self._next:
            self._show(self.display, self._latest, now)

    def close(self) -> None:
        """Show the end of it, and tidy up."""
        if self.display is None or self._latest is None:
            return
        if self.display.lasting:
            self._show(self.display, self._latest, time.monotonic())
        self.display.close()

    def _show(self, display: Display, figures: Figures, now: float) -> None:
        display.show(figures, self._rate(now, figures.events))
        self._next = now + display.every_seconds

    def _chosen(self, figures: Figures) -> Display:
        if not sys.stderr.isatty():
            return LogLines(self._log_seconds)
        from rich.console import Console

        console = Console(stderr=True)
        return Status(console) if math.isnan(figures.left_bytes) else Bar(console)

    def _rate(self, now: float, events: int) -> float:
        self._past.append((now, events))
        while len(self._past) > 2 and self._past[1][0] < now - RATE_SECONDS:
            self._past.popleft()
        then, before = self._past[0]
        return (events - before) / max(now - then, 1e-9)


@contextmanager
def watching(log_seconds: float) -> Iterator[Watch]:
    """A watch on a run, its display ended whatever happens."""
    watch = Watch(log_seconds)
    try:
        yield watch
    finally:
        watch.close()
