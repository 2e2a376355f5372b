"""`run`: the engine as one function."""

import logging
import uuid
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from stream_em.engine.authority import Newest, authority_of
from stream_em.engine.checkpointing import Checkpointer
from stream_em.engine.conflicts import conflicts, unfit_for_transactions
from stream_em.engine.drain import Drain, StopRequest
from stream_em.engine.gate import check_missing
from stream_em.engine.ingest import Ingest
from stream_em.engine.locking import locked
from stream_em.engine.loop import Loop, Parts
from stream_em.engine.outputs import Outlets, Outputs
from stream_em.engine.recovery import Setup, Start, started
from stream_em.engine.saving import InStore, Saving, Unsaved
from stream_em.engine.schedule import Schedule
from stream_em.engine.summary import Summary
from stream_em.errors import (
    DrainTimeout,
    PartitionsLost,
    SavedStateError,
    SettingsError,
    StreamEmError,
    StreamEmWarning,
    TooManyRejects,
    Undecided,
)
from stream_em.learning import warm_up
from stream_em.metrics.meter import Meter
from stream_em.metrics.snapshot import Snapshot
from stream_em.models.protocol import Model
from stream_em.stores import Store
from stream_em.streams import Sink, Source

log = logging.getLogger(__name__)

DEFAULT_SCHEDULE = Schedule()
PATIENCE_SECONDS = 2.0  # with a thread that should end
SLICE_ROWS = 1_000  # of output queues, for sources without a batch size
NAME = "stream-em"  # of a run that was given none


@dataclass(frozen=True)
class _Orders:
    """What a run is told beside where it begins."""

    schedule: Schedule
    outlets: Outlets
    identity: str  # of the engine: its name and instance
    max_events: int | None
    drain: Drain
    meter: Meter
    observe: Callable[[Snapshot], None]


def run(
    source: Source,
    model: Model,
    sinks: Sequence[Sink] = (),
    store: Store | None = None,
    *,
    schedule: Schedule = DEFAULT_SCHEDULE,
    seed: int = 0,
    dead_letters: Sink | None = None,
    changes: Sink | None = None,
    max_events: int | None = None,
    fresh: bool = False,
    overwrite: bool = False,
    continue_input: bool = False,
    accept_source_change: bool = False,
    take_over: bool = False,
    trust_checkpoint: bool = False,
    name: str | None = None,
    instance_id: str | None = None,
    stop: StopRequest | None = None,
    observe: Callable[[Snapshot], None] | None = None,
    meter: Meter | None = None,
    shutdown_timeout_seconds: float = 30.0,
) -> Summary:
    """Learn a stream: read it, cluster it, write each row's assignment, save the state.

    With a `store` the run goes on where its last checkpoint stands, and no row is lost
    or counted twice; `fresh` starts anew instead and cuts the outputs. `overwrite` lets
    a first run empty outputs that hold something, `continue_input` lets an input
    without positions go on, `accept_source_change` allows another source after rows
    are learned. Transactional outputs need a `name`, from which the transactions' derives;
    then `take_over` displaces an engine that holds the folder but may be frozen, and
    `trust_checkpoint` goes on where nobody vouches for the newest checkpoint. `instance_id`
    tells engines apart that share a configuration. `dead_letters` takes rejected records,
    `changes` the births, deaths, merges and relocations of clusters, both as exactly as
    `sinks`. `stop.requested` (an event) ends
    the run after the batch at hand; `max_events` at the last batch boundary that does not
    pass it. `observe` gets the immutable metrics after each batch, on the learning thread.

    Raises `SettingsError` for outputs in conflict, `Unreachable`, `SavedStateError` or one
    of its kinds before anything is read, `RunFailed` or one of its kinds when the run
    stops half way, `DrainTimeout` when stopping takes more than `shutdown_timeout_seconds`.

    >>> import stream_em as se
    >>> from stream_em.memory import MemorySource
    >>> model = se.KMeans(n_clusters=2, initial_means=[[0.0], [10.0]])
    >>> run(MemorySource([[[1.0], [9.0], [11.0]]]), model).objective_per_event
    1.0
    """
    outlets = Outlets(tuple(sinks), dead_letters, changes)
    source = source.named(name or NAME, instance_id)
    store = store if store is None or instance_id is None else store.of_instance(instance_id)
    _check(source, model, outlets, store, max_events)
    unfit = unfit_for_transactions(outlets.all, store is not None, schedule, name, take_over)
    if unfit:
        raise SettingsError("; ".join(unfit))
    setup = Setup(
        source=source,
        model=model,
        sinks=outlets.all,
        store=store,
        seed=seed,
        incarnation="",
        fresh=fresh,
        overwrite=overwrite,
        continue_input=continue_input,
        accept_source_change=accept_source_change,
        authority=Newest(),
        trust_checkpoint=trust_checkpoint,
    )
    if meter is None:
        interval = schedule.every_seconds if store is not None else 0.0
        meter = Meter(model, name=name or NAME, checkpoint_interval_seconds=interval or None)
    drain = Drain(stop, shutdown_timeout_seconds, meter.beat)
    identity = ".".join(part for part in (name or NAME, instance_id) if part is not None)
    shown = _ignored if observe is None else observe
    orders = _Orders(schedule, outlets, identity, max_events, drain, meter, shown)
    try:
        with locked(store, take_over):
            return _attempts(setup, orders)
    except BaseException:
        shown(meter.state("failed"))
        raise


def _ignored(snapshot: Snapshot) -> None:
    """Nobody observes."""


def _attempts(setup: Setup, orders: _Orders) -> Summary:
    """One run, begun again from the true checkpoint whenever partitions were lost."""
    while True:
        authority = authority_of(setup.sinks, orders.identity, orders.schedule.every_seconds)
        incarnation = uuid.uuid4().hex[:12]
        try:
            return _run(replace(setup, incarnation=incarnation, authority=authority), orders)
        except PartitionsLost as error:
            log.warning("starting again from the checkpoint that is true: %s", error)
            setup = replace(setup, fresh=False)
        finally:
            authority.close()


def _run(setup: Setup, orders: _Orders) -> Summary:
    drain, meter, observe = orders.drain, orders.meter, orders.observe
    observe(meter.state("restoring"))
    start = _started(setup, meter)
    _limit(setup.source, start, orders.max_events)
    slice_rows = int(getattr(setup.source, "batch_size", SLICE_ROWS))
    outputs = Outputs(orders.outlets, slice_rows, drain)
    ingest = Ingest(start.stream)
    saving = _saving(setup, orders, start, outputs, ingest)
    parts = Parts(ingest, outputs, saving, drain, meter, observe)
    try:
        _warm_up(setup.model, len(start.stream.features))
        summary = Loop(setup, start, parts, orders.max_events).run()
        ingest.stop(PATIENCE_SECONDS)
        outputs.close()
        saving.close(PATIENCE_SECONDS)
    except BaseException as error:
        _abandon(setup, parts, error)
        raise
    return summary


def _warm_up(model: Model, D: int) -> None:
    """Compile before the first fetch; what is said of invented rows concerns nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StreamEmWarning)
        warm_up(model, max(D, 1))


def _check(
    source: Source, model: Model, outlets: Outlets, store: Store | None, max_events: int | None
) -> None:
    check_missing(source, model)
    found = conflicts(source, outlets.all)
    if found:
        raise SettingsError("; ".join(found))
    if max_events is not None and max_events < 1:
        raise SettingsError(f"max_events came as {max_events}, expected at least 1, or None")
    if store is None:
        log.warning("no store: nothing is saved, and the next run starts anew")


def _started(setup: Setup, meter: Meter) -> Start:
    try:
        start = started(setup)
    except SavedStateError:
        meter.restore_failed()
        raise
    if start.resumed_from is not None:
        meter.restored(start.state.total_events, start.state.held_rows)
    return start


def _limit(source: Source, start: Start, max_events: int | None) -> None:
    if max_events is None:
        return
    start.stream.limit(max_events)
    if max_events < int(getattr(source, "batch_size", max_events)):
        log.warning(
            "max_events = %d cuts a batch short: a resumed run will not be bit-identical to an "
            "uninterrupted one",
            max_events,
        )


def _saving(
    setup: Setup, orders: _Orders, start: Start, outputs: Outputs, ingest: Ingest
) -> Saving:
    if setup.store is None:
        return Unsaved(outputs, start.extents, orders.drain)
    keep = orders.schedule.keep
    checkpointer = Checkpointer(setup.store, outputs, ingest, setup.authority, keep)
    return InStore(
        checkpointer, setup.authority, start, orders.schedule, orders.drain, orders.meter
    )


def _abandon(setup: Setup, parts: Parts, error: BaseException) -> None:
    """End all threads; nothing after the last checkpoint becomes durable or visible."""
    patience = 0.0 if isinstance(error, DrainTimeout) else PATIENCE_SECONDS
    parts.ingest.stop(patience)
    if isinstance(error, TooManyRejects):
        with suppress(StreamEmError, OSError):  # the verdict is what matters
            parts.saving.settle()
    closed = parts.outputs.abandon(patience)
    parts.saving.close(patience)
    if isinstance(error, Exception) and not isinstance(error, (Undecided, DrainTimeout)):
        setup.authority.abort()
    if isinstance(error, TooManyRejects):
        for sink in closed:
            _cut_back(sink, parts.saving, setup.incarnation)


def _cut_back(sink: Sink, saving: Saving, incarnation: str) -> None:
    """Put an output back to the last checkpoint, or to where the run began."""
    if not sink.exactly_once or sink.cluster is not None:
        return
    try:
        sink.roll_back(saving.extents[sink.name], saving.number, incarnation)
    except (StreamEmError, OSError) as error:
        log.error("output %s could not be cut back: %s", sink.name, error)
    finally:
        sink.close()
