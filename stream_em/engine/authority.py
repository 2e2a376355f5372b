"""Who says which checkpoint is true: the folder itself, or a marker that transactions commit.

Without transactional outputs the newest valid checkpoint is true. With them the outputs of a
checkpoint and the marker that names it become visible in one transaction, so what the
marker names is true, whatever else lies in the folder.
"""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import final

from stream_em.checkpoints import Checkpoint
from stream_em.engine.settings import decider, is_blank
from stream_em.errors import CheckpointDamaged, SavedStateError
from stream_em.stores import Store
from stream_em.streams import Marker, Sink, Transactions

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400.0
DIGITS = 16  # of a checkpoint's digest that a marker holds

Found = tuple[str, Checkpoint]  # the name of a checkpoint, and what is in it


class Authority(ABC):
    """Chooses the true checkpoint at the start and learns of every later one."""

    identity: str | None  # as checkpoints remember who decides; None: the folder does
    patience_seconds: float  # how long checkpoints may fail before the run has to stop
    refresh_seconds: float  # how long it may go without hearing of a checkpoint

    @abstractmethod
    def open(self) -> None:
        """Come to power: from now on no rival of the same identity can commit."""

    @abstractmethod
    def true_checkpoint(self, store: Store, trust: bool) -> Found | None:
        """The checkpoint to resume from, None to begin anew.

        `trust` takes the newest where nobody vouches for it. Raises `SavedStateError`.
        """

    @abstractmethod
    def commit(self, store: Store, number: int, name: str, courtesy: object | None) -> bool:
        """Make a durable checkpoint the true one; whether `courtesy` was committed along.

        Raises `Undecided` or one of its kinds: then nothing more may be written.
        """

    @abstractmethod
    def abort(self) -> None:
        """Take back what outputs wrote since the last commit."""

    @abstractmethod
    def close(self) -> None:
        """Step down. Idempotent."""


@final
class Newest(Authority):
    """The newest valid checkpoint is true as soon as it is durable."""

    identity = None
    patience_seconds = math.inf
    refresh_seconds = math.inf

    def open(self) -> None:
        """Nobody is to be asked: the folder's lock keeps rivals out."""

    def true_checkpoint(self, store: Store, trust: bool) -> Found | None:
        """The newest valid one, unless a marker used to decide that is no longer asked."""
        found = newest(store)
        if found is not None:
            _refuse_other_decider(self.identity, found, trust)
        return found

    def commit(self, store: Store, number: int, name: str, courtesy: object | None) -> bool:
        """It is true already."""
        return False

    def abort(self) -> None:
        """Plain outputs are cut back instead."""

    def close(self) -> None:
        """Nothing was opened."""


@final
class Marked(Authority):
    """What the last committed marker names is true."""

    refresh_seconds = DAY_SECONDS / 2  # offsets of idle groups expire

    def __init__(self, transactions: Transactions, outputs: Sequence[str]) -> None:
        """`outputs` are the names of those that are written within the transactions."""
        self._transactions, self._outputs = transactions, frozenset(outputs)
        self._marker: Marker | None = None
        self.identity = transactions.identity
        self.patience_seconds = transactions.timeout_seconds / 2

    def open(self) -> None:
        """Fence rivals, then read the marker; earlier it could be a stale one."""
        self._marker = self._transactions.open()

    def true_checkpoint(self, store: Store, trust: bool) -> Found | None:
        """What the marker names; without a marker, a run that has hardly begun."""
        if self._marker is not None:
            unknown = self._unknown_to(store, self._marker)
            if unknown is None:
                return self._named(store, self._marker)
            self._refuse_unknown(unknown, self._marker, trust)
        found = newest(store)
        if found is None:
            return None
        name, checkpoint = found
        if decider(checkpoint) is not None:
            _refuse_other_decider(self.identity, found, trust)
            self._refuse_unmarked(found, trust)
        self.commit(store, checkpoint.number, name, None)
        return found

    def commit(self, store: Store, number: int, name: str, courtesy: object | None) -> bool:
        """Outputs, marker and positions in one transaction."""
        marker = Marker(number, name, store.digest(name)[:DIGITS])
        along = self._transactions.commit(marker, courtesy)
        self._marker = marker
        return along

    def abort(self) -> None:
        """Abort the open transaction."""
        self._transactions.abort()

    def close(self) -> None:
        """Release the producer; what is open is aborted by whoever comes next."""
        self._transactions.close()

    def _unknown_to(self, store: Store, marker: Marker) -> Found | None:
        """A later checkpoint, beside outputs of which none is this run's: no marker tells of it."""
        if marker.number == 0:  # it has begun anew, and what is older waits to be deleted
            return None
        names = store.names()
        later = names[names.index(marker.name) + 1 :] if marker.name in names else names
        for name in reversed(later):
            with suppress(CheckpointDamaged):
                checkpoint = store.load(name)
                if checkpoint.number <= marker.number:
                    return None
                theirs = decider(checkpoint) == self.identity
                ours = self._outputs & frozenset(checkpoint.settings.get("sinks", ()))
                return (name, checkpoint) if theirs and not ours else None
        return None

    def _refuse_unknown(self, found: Found, marker: Marker, trust: bool) -> None:
        name, checkpoint = found
        others = ", ".join(checkpoint.settings["sinks"])
        if not trust:
            raise SavedStateError(
                f"the marker of {self.identity} names checkpoint {marker.name}, but {name} is "
                f"later and was written beside other outputs ({others}), whose marker is not "
                "asked; write those, too, or give --trust-checkpoint (trust_checkpoint=True) to "
                f"go on from {name}"
            )
        log.warning("going on from %s, which no marker of these outputs knows, as told", name)

    def _named(self, store: Store, marker: Marker) -> Found:
        said = f"the marker of {self.identity} names checkpoint {marker.name}"
        if marker.name not in store.names():
            raise SavedStateError(
                f"{said}, which is not there; its outputs are visible already, so no other "
                "checkpoint can take its place: bring the folder back, or start anew with --fresh "
                "(fresh=True)"
            )
        try:
            checkpoint = store.load(marker.name)
            digest = store.digest(marker.name)[:DIGITS]
        except (CheckpointDamaged, OSError) as error:
            raise SavedStateError(
                f"{said}, which cannot be read ({error}); its outputs are visible already, so the "
                "one before it would write them twice: restore it from a backup, or start anew "
                "with --fresh (fresh=True)"
            ) from error
        if digest != marker.digest:
            raise SavedStateError(
                f"{said} with digest {marker.digest}, but the file has {digest}: it is another "
                "one; restore it from a backup, or start anew with --fresh (fresh=True)"
            )
        return marker.name, checkpoint

    def _refuse_unmarked(self, found: Found, trust: bool) -> None:
        name, checkpoint = found
        if checkpoint.number == 0 or is_blank(checkpoint):
            return
        if not trust:
            raise SavedStateError(
                f"{self.identity} has no marker, but the folder holds checkpoint {name} with "
                f"{checkpoint.state.total_events} rows; was the topic or the group deleted? Give "
                "--trust-checkpoint (trust_checkpoint=True) to go on from it, or start anew with "
                "--fresh (fresh=True)"
            )
        log.warning("going on from %s without a marker, as told", name)


def authority_of(sinks: Sequence[Sink], name: str, every_seconds: float) -> Authority:
    """Who decides for these outputs; transactional ones are enlisted with one producer.

    That they can share one was checked before (`conflicts.unfit_for_transactions`).
    """
    enlisted = [sink for sink in sinks if sink.cluster is not None]
    if not enlisted:
        return Newest()
    transactions = enlisted[0].transactions(name, every_seconds)
    for sink in enlisted:
        sink.enlist(transactions)
    return Marked(transactions, [sink.name for sink in enlisted])


def newest(store: Store) -> Found | None:
    """The newest valid checkpoint; None when there is none at all.

    Raises `CheckpointDamaged` when there are some and every one is damaged.
    """
    names = store.names()
    for name in reversed(names):
        try:
            return name, store.load(name)
        except CheckpointDamaged as error:
            left = ", taking the one before it" if name != names[0] else ""
            log.error("checkpoint %s is damaged%s: %s", name, left, error)
    if names:
        raise CheckpointDamaged(
            f"all {len(names)} checkpoints are damaged ({', '.join(names)}); restore one from a "
            "backup, or start anew with --fresh (fresh=True)"
        )
    return None


def _refuse_other_decider(identity: str | None, found: Found, trust: bool) -> None:
    """Raises `SavedStateError` where somebody else decided which checkpoint is true."""
    name, checkpoint = found
    before = decider(checkpoint)
    if before in (None, identity) or is_blank(checkpoint):
        return
    if not trust:
        now = "no transactional output" if identity is None else identity
        raise SavedStateError(
            f"checkpoint {name} is true only if {before} says so, but this run has {now}; take "
            "the old outputs and name, or give --trust-checkpoint (trust_checkpoint=True) to go "
            "on from it all the same: rows behind it may come twice"
        )
    log.warning("going on from %s without asking %s, as told", name, before)
