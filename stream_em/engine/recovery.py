"""Where a run begins: anew with checkpoint 0, or at the checkpoint that is true.

Nothing is touched before everything that can be refused has been: the true
checkpoint is chosen, the settings are compared and the source is opened first; only
then newer files go and outputs are rolled back.
"""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from stream_em.checkpoints import Checkpoint
from stream_em.engine.authority import Authority, Found
from stream_em.engine.settings import compare, compare_features, is_blank, same_source
from stream_em.errors import SavedStateError, SourceChanged
from stream_em.learning import init
from stream_em.models.protocol import Model
from stream_em.state import State
from stream_em.stores import Store
from stream_em.streams import Json, Origins, Positions, Sink, Source, Stream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """What a run is given to begin with."""

    source: Source
    model: Model
    sinks: tuple[Sink, ...]  # all of them: dead letters and changes, too
    store: Store | None
    seed: int
    incarnation: str
    fresh: bool
    overwrite: bool
    continue_input: bool
    accept_source_change: bool
    authority: Authority
    trust_checkpoint: bool


@dataclass(frozen=True)
class Start:
    """Where it begins: everything opened, every output at its place."""

    stream: Stream
    state: State
    positions: Positions
    pending: Origins | None
    rejected: int  # since the model began
    number: int  # of the checkpoint that holds
    extents: Mapping[str, Json]  # of all outputs, as they stand
    resumed_from: str | None
    unsaved: bool  # a checkpoint has to be written before the first row is read


def started(setup: Setup) -> Start:
    """Begin anew or resume. On failure everything opened on the way is closed again."""
    with ExitStack() as opened:
        for sink in setup.sinks:
            opened.callback(sink.close)
        setup.authority.open()
        start = _started(setup, opened)
        opened.pop_all()
        return start


def _started(setup: Setup, opened: ExitStack) -> Start:
    found = None
    if setup.store is not None:
        _announce(setup)
        found = _true_checkpoint(setup, setup.store)
    if found is None:
        return _anew(setup, opened, setup.fresh or setup.overwrite, {})
    name, checkpoint = found
    if is_blank(checkpoint) and not same_source(checkpoint, setup.source):
        log.info("nothing was learned at %s and the source is another one: starting anew", name)
        return _anew(setup, opened, setup.overwrite, checkpoint.extents)
    try:
        return _resumed(setup, opened, name, checkpoint)
    except SourceChanged as error:
        if not is_blank(checkpoint):
            raise
        log.info(
            "nothing was learned at %s and the source changed: starting anew (%s)", name, error
        )
        return _anew(setup, opened, setup.overwrite, checkpoint.extents)


def _announce(setup: Setup) -> None:
    if not setup.source.seekable:
        log.warning(
            "this input has no positions: after a crash, rows read since the last checkpoint are "
            "lost to the model (at most once)"
        )


def _true_checkpoint(setup: Setup, store: Store) -> Found | None:
    if setup.fresh:
        return None
    return setup.authority.true_checkpoint(store, setup.trust_checkpoint)


def _anew(setup: Setup, opened: ExitStack, overwrite: bool, ours: Mapping[str, Json]) -> Start:
    """Outputs named in `ours` were begun by a run that learned nothing: they may be cut."""
    stream = _opened(setup, opened, None)
    if setup.store is not None:  # older checkpoints go once the new one is true
        setup.store.clean()
    extents = {
        sink.name: sink.begin(setup.incarnation, overwrite or sink.name in ours)
        for sink in setup.sinks
    }
    if not setup.source.seekable:  # rows cannot come again, so none may wait for a cut
        for sink in setup.sinks:
            sink.committed(0)
    return Start(
        stream=stream,
        state=_blank(setup, stream),
        positions=stream.positions,
        pending=None,
        rejected=0,
        number=0,
        extents=extents,
        resumed_from=None,
        unsaved=True,
    )


def _blank(setup: Setup, stream: Stream) -> State:
    return replace(init(setup.model, setup.seed), features=tuple(stream.features))


def _opened(setup: Setup, opened: ExitStack, positions: Positions | None) -> Stream:
    stream = setup.source.opened_at(positions)
    opened.callback(stream.close)
    return stream


def _resumed(setup: Setup, opened: ExitStack, name: str, checkpoint: Checkpoint) -> Start:
    blank = is_blank(checkpoint)
    if not blank:
        compare(checkpoint, name, setup.model, setup.source, setup.accept_source_change)
        _compare_seed(setup, checkpoint)
    _refuse_unseekable(setup, checkpoint, name)
    stream = _reopened(setup, opened, checkpoint)
    if not blank:
        compare_features(checkpoint, name, stream.features)
    known = _rolled_back(setup, name, checkpoint)
    log.info(
        "resumed from %s: %d rows learned or held, %d rejected before",
        name,
        checkpoint.state.total_events,
        checkpoint.rejected,
    )
    return Start(
        stream=stream,
        state=_blank(setup, stream) if blank else checkpoint.state,
        positions=checkpoint.positions.advanced(stream.positions),
        pending=checkpoint.pending,
        rejected=checkpoint.rejected,
        number=checkpoint.number,
        extents=known,
        resumed_from=name,
        unsaved=not set(known) <= set(checkpoint.extents),  # a new output: as on a first run
    )


def _compare_seed(setup: Setup, checkpoint: Checkpoint) -> None:
    if checkpoint.state.seed != setup.seed:
        log.warning(
            "seed %d is ignored: the saved state goes on with its own, %d",
            setup.seed,
            checkpoint.state.seed,
        )


def _refuse_unseekable(setup: Setup, checkpoint: Checkpoint, name: str) -> None:
    if setup.source.seekable or is_blank(checkpoint):
        return
    learned = checkpoint.state.total_events
    if not setup.continue_input:
        raise SavedStateError(
            f"checkpoint {name} holds {learned} rows, but this input has no positions to go on "
            "from; give --continue (continue_input=True) if what comes in now follows them, or "
            "start anew with --fresh (fresh=True)"
        )
    log.warning("continuing after %d rows learned before; the input goes on as it comes", learned)


def _reopened(setup: Setup, opened: ExitStack, checkpoint: Checkpoint) -> Stream:
    try:
        return _opened(setup, opened, checkpoint.positions)
    except SourceChanged as error:
        if is_blank(checkpoint) or not setup.accept_source_change:
            raise
        log.warning("reading the changed source from its start, as accepted: %s", error)
        return _opened(setup, opened, None)


def _rolled_back(setup: Setup, name: str, checkpoint: Checkpoint) -> Mapping[str, Json]:
    """Delete newer files, put old outputs back to the checkpoint, begin new ones."""
    store = setup.store
    assert store is not None  # there is a checkpoint, so there is a store
    names = store.names()
    newer = names[names.index(name) + 1 :]
    if newer:
        store.delete(newer)
    store.clean()
    extents: dict[str, Json] = {}
    for sink in setup.sinks:
        if sink.name in checkpoint.extents:
            extents[sink.name] = _at_its_place(setup, sink, checkpoint)
        else:
            extents[sink.name] = sink.begin(setup.incarnation, setup.overwrite)
    for gone in sorted(set(checkpoint.extents) - set(extents)):
        log.info("output %s is no longer written", gone)
    return extents


def _at_its_place(setup: Setup, sink: Sink, checkpoint: Checkpoint) -> Json:
    """Roll an output back; behind an input without positions rows stay that cannot come again."""
    extent = checkpoint.extents[sink.name]
    if not setup.source.seekable:
        return sink.keep(extent, checkpoint.number, setup.incarnation)
    sink.roll_back(extent, checkpoint.number, setup.incarnation)
    return extent
