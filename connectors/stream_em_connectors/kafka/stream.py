"""The stream of a Kafka source: polls its client, decodes, and cuts batches."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, final

from stream_em.errors import RecordsGone, SourceChanged, SourceFailed
from stream_em.streams import Batch, InputStatus, Partition, Positions, Progress, Stream
from stream_em_connectors.kafka.bounds import Bounds
from stream_em_connectors.kafka.client import Chunk, Committed, Consumer, OutOfRange, TopicPartition
from stream_em_connectors.kafka.courtesy import Courtesy
from stream_em_connectors.kafka.holding import Holding
from stream_em_connectors.kafka.intake import Intake
from stream_em_connectors.kafka.marks import offsets_in, positions_at
from stream_em_connectors.kafka.pending import Draft, Pending, batch_of
from stream_em_connectors.kafka.places import Ledger
from stream_em_connectors.kafka.watch import Watch

RECORDS = 10_000  # of one poll, at most
NEVER = 1 << 63  # beyond all offsets


class Parts(NamedTuple):
    """What a stream is made of."""

    consumer: Consumer
    intake: Intake
    pending: Pending
    ledger: Ledger
    holding: Holding
    watch: Watch
    bounds: Bounds


class Cutting(NamedTuple):
    """How batches are cut."""

    rows: int  # at most
    patience: float  # seconds that a row waits for others


class _Commits(NamedTuple):
    """Commits to the group so far."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0


@final
class KafkaStream(Stream):
    """Batches of up to so many rows; a smaller one when its first record has waited enough."""

    def __init__(
        self, parts: Parts, features: tuple[str, ...], cutting: Cutting, cluster: str | None
    ) -> None:
        self.features = features
        self.positions = positions_at(parts.ledger.at, parts.ledger.ids)
        self._parts, self._consumer, self._ledger = parts, parts.consumer, parts.ledger
        self._pending, self._intake = parts.pending, parts.intake
        self._size, self._patience = cutting
        self._cluster = cluster  # None: there is no group to commit to
        self._unfinished = set(parts.ledger.stops or ())
        self._since = 0.0  # when the first pending record came
        self._newest: dict[Partition, float] = {}
        self._read_bytes = 0
        self._commits = _Commits()
        # Raised once all that was read before it is handed out.
        self._broken: SourceChanged | RecordsGone | None = None
        self._closed = False
        parts.holding.begin()

    def poll(self, seconds: float) -> Batch | None:
        """The next batch.

        Raises `SourceFailed`, `SourceChanged` and `RecordsGone` when the input breaks off,
        the latter two once all that was read before is handed out, and `PartitionsLost`
        when another engine has taken it over.
        """
        try:
            return self._polled(time.monotonic() + seconds)
        except (SourceChanged, RecordsGone) as error:
            if self._pending.empty:
                raise
            self._broken = error
            return self._cut()

    def _polled(self, deadline: float) -> Batch | None:
        if self._broken is not None and self._pending.empty:
            raise self._broken
        while not (self._pending.full(self._size) or self._over or self._waited):
            if self._parts.watch.due:
                self._look()
            self._fetch(max(0.0, min(deadline, self._due) - time.monotonic()))
            if time.monotonic() >= deadline:
                break
        return None if self._closed else self._cut()

    @property
    def skipped(self) -> int:
        """Records that were gone before they were read, with `on_gap = "skip"`."""
        return self._parts.bounds.skipped

    def _fetch(self, seconds: float) -> None:
        """One poll of the client."""
        holding = self._parts.holding
        try:
            chunks = self._consumer.poll(seconds, RECORDS)
        except OutOfRange as error:
            holding.check()
            self._parts.watch.astray(error)
            chunks = []
        holding.check()
        for chunk in chunks:
            self._take(chunk)
        self._finish()

    def _take(self, chunk: Chunk) -> None:
        place, stops = chunk.place, self._ledger.stops
        if place not in self._ledger.owned:
            return
        if stops is not None and chunk.offsets[-1] >= stops.get(place, 0):
            chunk = _up_to(chunk, bisect_left(chunk.offsets, stops.get(place, 0)))
        if not len(chunk.values):
            return
        self._ledger.read[place] = chunk.offsets[-1] + 1
        if self._pending.empty:
            self._since = time.monotonic()
        self._pending.put(self._intake.run(chunk))

    def _finish(self) -> None:
        """Leave alone what has been read to its stop."""
        done = [place for place in self._unfinished if self._standing(place) >= self._stop(place)]
        if not done:
            return
        self._unfinished.difference_update(done)
        self._consumer.pause([place for place in done if place in self._ledger.owned])
        self._note_passed()

    def _look(self) -> None:
        self._parts.watch.look()
        self._note_passed()

    def _note_passed(self) -> None:
        """Markers of transactions and records taken back move positions, too."""
        for place in self._ledger.owned:
            if not self._pending.holds(place):
                self._ledger.move(place, self._standing(place))

    def _standing(self, place: TopicPartition) -> int:
        """How far the client has read, up to the stop."""
        if place not in self._ledger.owned:
            return self._ledger.at.get(place, 0)
        return min(self._consumer.position(place), self._stop(place))

    def _stop(self, place: TopicPartition) -> int:
        stops = self._ledger.stops
        return NEVER if stops is None else stops.get(place, 0)

    def _cut(self) -> Batch | None:
        full = self._pending.full(self._size)
        if self._pending.empty:
            return self._batch(Draft(), timed=True) if self._ledger.moved else None
        if not (full or self._over or self._waited):
            return None
        draft = self._pending.cut(self._size)
        self._since = time.monotonic()
        return self._batch(draft, timed=not full and not self._over)

    def _batch(self, draft: Draft, timed: bool) -> Batch:
        for place, offset in draft.reached.items():
            self._ledger.move(place, offset)
            if self._broken is None and not self._pending.holds(place):
                self._ledger.move(place, self._standing(place))
        self._newest.update(draft.newest())
        batch = batch_of(draft, self._intake.nothing, self._ledger.told(), timed)
        self._read_bytes += batch.read_bytes
        return batch

    @property
    def _over(self) -> bool:
        """Whether nothing more is to be read."""
        if self._closed or self._broken is not None:
            return True
        finite = self._ledger.stops is not None and self._parts.holding.settled
        return finite and not self._unfinished & self._ledger.owned

    @property
    def _due(self) -> float:
        """When pending records have waited long enough."""
        return float("inf") if self._pending.empty else self._since + self._patience

    @property
    def _waited(self) -> bool:
        return time.monotonic() >= self._due

    @property
    def ended(self) -> bool:
        """True once everything up to the stops has been handed out, or the stream is closed."""
        finished = self._over and self._pending.empty and not self._ledger.moved
        return self._closed or (finished and self._broken is None)

    def limit(self, rows: int) -> None:
        """Hand out no batch larger than `rows` from now on."""
        self._size = min(self._size, rows)

    def progress(self) -> Progress:
        """Bytes of the values handed out. Topics have no size to compare them with."""
        return Progress(self._read_bytes, None)

    def commit(self, positions: Positions) -> None:
        """Commit to the group, if there is one. Raises `SourceFailed`."""
        offsets = self._mine(positions)
        if self._cluster is None or not offsets:
            return
        began, (done, failed, seconds) = time.perf_counter(), self._commits
        try:
            self._consumer.commit(offsets)
        except SourceFailed:
            self._commits = _Commits(done, failed + 1, seconds + time.perf_counter() - began)
            raise
        self._commits = _Commits(done + 1, failed, seconds + time.perf_counter() - began)
        self._ledger.committed.update(offsets)

    def courtesy(self, positions: Positions) -> Courtesy | None:
        """The same for a transaction, with the group's generation.

        Partitions that go are settled before they do.
        """
        offsets = {place: Committed(at, "") for place, at in self._mine(positions).items()}
        if self._cluster is None or not offsets:
            return None
        return Courtesy(self._cluster, self._parts.holding.group(), offsets)

    def committed(self, positions: Positions, seconds: float) -> None:
        """A transaction committed them to the group."""
        done, failed, before = self._commits
        self._commits = _Commits(done + 1, failed, before + seconds)
        self._ledger.committed.update(self._mine(positions))

    def _mine(self, positions: Positions) -> dict[TopicPartition, int]:
        return offsets_in(positions, self._ledger.owned, self._ledger.ids)

    def status(self) -> InputStatus:
        """What is known. The ends are those of the last look round, seconds ago."""
        rebalances = self._parts.holding.rebalances
        ledger, commits = self._ledger, self._commits
        errors = Counter(self._consumer.errors)
        return InputStatus(
            connected=self._consumer.connected,
            lag=ledger.lag(),
            uncommitted={} if self._cluster is None else ledger.uncommitted(),
            newest=dict(self._newest),
            assigned=len(ledger.owned),
            rebalances=rebalances.times,
            rebalance_seconds=rebalances.seconds,
            errors={**errors, "deserialize": self._intake.undecodable},
            commits=commits.done,
            failed_commits=commits.failed,
            commit_seconds=commits.seconds,
        )

    def attend(self, settle: Callable[[], None]) -> None:
        """Hear how to end an epoch."""
        self._parts.holding.attend(settle)

    def close(self) -> None:
        """Disconnect and end; a static member of a group stays one for a while."""
        self._closed = True
        self._parts.holding.close()
        self._consumer.close(leave=self._parts.holding.leaves)


def _up_to(chunk: Chunk, n: int) -> Chunk:
    """The first `n` records."""
    return chunk._replace(
        offsets=chunk.offsets[:n],
        values=chunk.values[:n],
        keys=chunk.keys[:n],
        times=chunk.times[:n],
    )
