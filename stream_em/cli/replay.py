"""`stream-em replay`: learn a finite input by going through it again and again."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import click

from stream_em.cli.shell import chosen_file, say, shell

if TYPE_CHECKING:
    from stream_em.checkpoints import Checkpoint
    from stream_em.config import Plan
    from stream_em.replaying import Chunk, Method, Replayed, Sweep, Visit
    from stream_em.state import State
    from stream_em.streams import Batch, Positions

log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """What the command line asks for beside the configuration."""

    sweeps: int
    tolerance: float
    fast: bool
    output: Path | None
    progress: bool


@click.command("replay", short_help="Learn a finite input by going through it again and again.")
@click.argument("file", type=click.Path(path_type=Path), required=False, metavar="[CONFIG]")
@click.option(
    "-c", "--config", "named", type=click.Path(path_type=Path), help="The same as CONFIG."
)
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Override a value.")
@click.option(
    "--sweeps", type=click.IntRange(min=1), default=40, show_default=True, help="At most so many."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-6,
    show_default=True,
    help="End when a sweep gains no more: nats per event; for k-means a share of J.",
)
@click.option("--fast", is_flag=True, help="Reduce variance (sEM-vr): fewer, longer sweeps.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Save the model here and leave the checkpoints alone.",
)
@click.option("--no-progress", is_flag=True, help="Show no progress.")
@shell
def command(
    file: Path | None, named: Path | None, settings: tuple[str, ...], no_progress: bool, **rest: Any
) -> None:
    """Learn all rows of the CONFIG's source, as often as it takes: batch quality.

    Begins with the clusters of the newest checkpoint, or seeds its own. Writes no output
    rows. The result becomes the next checkpoint, from which `run` goes on, or is saved
    to the file given by --output.
    """
    from stream_em.config import load

    plan = load(chosen_file(named, file), settings, os.environ)
    execute(plan, Asked(progress=not no_progress, **rest))


def execute(plan: "Plan", asked: Asked) -> None:
    """Replay the input of a plan and keep the result."""
    from stream_em.arrays import altered
    from stream_em.engine.authority import newest

    _refuse(plan, asked)
    with ExitStack() as around:
        if plan.store is not None and asked.output is None:
            around.enter_context(plan.store.lock())
        found = None if plan.store is None else newest(plan.store)
        begin = _beginning(plan, found)
        rows = Rows(plan, begin, None if asked.output is not None else found)
        shown = around.enter_context(_display(asked))
        replayed = _replayed(plan, asked, begin, rows, shown)
    if not replayed.sweeps:
        log.warning("no rows with weight came: nothing was learned and nothing is saved")
        return
    replayed = replayed._replace(state=altered(replayed.state, features=rows.features))
    _kept(plan, asked, found, rows, replayed)
    _tell(plan, replayed)


def _refuse(plan: "Plan", asked: Asked) -> None:
    from stream_em.errors import SettingsError

    if not plan.source.seekable:
        raise SettingsError(
            "this input can be read only once, and a replay reads it again and again; "
            "save it to a file first"
        )
    if asked.output is None and any(sink.cluster is not None for sink in plan.outputs):
        raise SettingsError(
            "a marker in Kafka names the checkpoint that is true, so a replay cannot put another "
            "one in its place; save the result elsewhere with --output"
        )
    if plan.store is None and asked.output is None:
        raise SettingsError(
            "the result would be kept nowhere; give --output FILE, or add [checkpoints]"
        )


def _beginning(plan: "Plan", found: "tuple[str, Checkpoint] | None") -> "State":
    """The state of the checkpoint found, or an empty one."""
    import stream_em as se
    from stream_em.engine.settings import compare, is_blank

    if found is None or is_blank(found[1]):
        return se.init(plan.model, plan.engine.seed)
    name, checkpoint = found
    compare(checkpoint, name, plan.model, plan.source, accept_source_change=False)
    log.info("beginning with the clusters of %s", name)
    return checkpoint.state


@final
class Rows:
    """The rows of a source, read from its beginning at each call, as chunks."""

    def __init__(
        self, plan: "Plan", begin: "State", resumed: "tuple[str, Checkpoint] | None"
    ) -> None:
        from stream_em.cli.inputs import as_it_is

        self._plan, self._begin, self._resumed = plan, begin, resumed
        self._source = as_it_is(plan.source)
        self.features: tuple[str, ...] = ()
        self.rejected = 0
        self.end: Positions | None = None  # once all rows were read

    def __call__(self) -> "Iterator[Chunk]":
        """All rows once more."""
        from stream_em.replaying import Chunk

        stream = self._source.opened_at(None)
        try:
            self.features, end, rejected = tuple(stream.features), stream.positions, 0
            while not stream.ended:
                batch = stream.poll(1.0)
                if batch is None:
                    continue
                batch, end = self._admitted(batch), end.advanced(batch.next_positions)
                rejected += len(batch.rejected)
                if len(batch.rows):
                    yield Chunk(batch.rows, batch.weights, batch.origins.times)
        finally:
            stream.close()
        self._note_end(end, rejected)

    def _admitted(self, batch: "Batch") -> "Batch":
        from stream_em.engine.gate import admitted

        return admitted(self._plan.model, self._begin, batch, self.features)

    def _note_end(self, end: "Positions", rejected: int) -> None:
        """Rows after the checkpoint have no output yet, so they must not be skipped."""
        from stream_em.engine.settings import is_blank
        from stream_em.errors import SavedStateError

        if self.end is None and self._resumed is not None and not is_blank(self._resumed[1]):
            name, checkpoint = self._resumed
            if dict(checkpoint.positions.parts) != dict(end.parts):
                raise SavedStateError(
                    f"checkpoint {name} does not stand at the end of the input, whose last rows "
                    "would get no output; `stream-em run` to the end first, or give --output FILE"
                )
        self.end, self.rejected = end, rejected


def _replayed(
    plan: "Plan", asked: Asked, begin: "State", rows: Rows, shown: "Bar | None"
) -> "Replayed":
    import stream_em as se

    method: Method = se.VarianceReduced() if asked.fast else se.Incremental()
    return se.replay(
        plan.model,
        begin,
        rows,
        sweeps=asked.sweeps,
        tolerance=asked.tolerance,
        method=method,
        progress=shown,
        swept=_log_sweep if shown is None and asked.progress else None,
    )


def _log_sweep(sweep: "Sweep") -> None:
    fields = {
        "sweep": sweep.number,
        "passes": sweep.passes,
        "objective_per_event": round(sweep.objective / sweep.weight, 6),
        "free_energy_nats_per_event": round(sweep.free_energy / sweep.weight, 6),
    }
    log.info("swept", extra={**fields, "words": described(sweep)})


def described(sweep: "Sweep") -> str:
    """A sweep in a few words."""
    words = [f"sweep {sweep.number}", f"J {sweep.objective / sweep.weight:.6g} per event"]
    if sweep.free_energy == sweep.free_energy:
        words.append(f"free energy {sweep.free_energy / sweep.weight:.6g} nats per event")
    if sweep.gain == sweep.gain:
        words.append(f"gain {sweep.gain:.1e}")
    return ", ".join(words)


@final
class Bar:
    """A rich progress bar over the chunks of each sweep."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.BarColumn(),
            progress.TextColumn("{task.description}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("first look", total=None)

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, visit: "Visit") -> None:
        """Called after each chunk."""
        what = f"sweep {visit.sweep}  bound {visit.bound:.8g}"
        self._bar.update(self._task, completed=visit.chunk, total=visit.chunks, description=what)


def _display(asked: Asked) -> Any:
    return Bar() if asked.progress and sys.stderr.isatty() else nullcontext()


def _kept(
    plan: "Plan",
    asked: Asked,
    found: "tuple[str, Checkpoint] | None",
    rows: Rows,
    replayed: "Replayed",
) -> None:
    """Save the result: to a file, or as the checkpoint after the newest."""
    import uuid

    import stream_em as se
    from stream_em.checkpoints import Checkpoint, versions
    from stream_em.engine.settings import remembered

    if asked.output is not None:
        se.save(asked.output, plan.model, replayed.state)
        log.info("saved to %s", asked.output)
        return
    assert plan.store is not None and rows.end is not None
    checkpoint = Checkpoint(
        number=1 if found is None else found[1].number + 1,
        incarnation=uuid.uuid4().hex[:12],
        model=plan.model,
        state=replayed.state,
        positions=rows.end,
        extents={} if found is None else found[1].extents,
        settings=remembered(plan.source, rows.features, plan.sinks, None),
        rejected=rows.rejected,
        versions=versions(),
    )
    log.info("saved as %s", plan.store.save(checkpoint))


def _tell(plan: "Plan", replayed: "Replayed") -> None:
    import stream_em as se
    from stream_em.cli.tables import cluster_table

    last = replayed.sweeps[-1]
    log.info("finished after %d passes: %s", last.passes, described(last))
    say(cluster_table(se.clusters(plan.model, replayed.state), replayed.state.features))
