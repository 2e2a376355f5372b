"""Polling in a group: kafka-python calls back on its own thread, the port on the caller's.

Its network thread awaits the listener, so a listener that ends an epoch there would stop
the heartbeats, and one that commits would wait for itself. So a second thread polls, and
the caller, who waits for it, runs the callbacks meanwhile.

Joining is asked for without a deadline, over as many polls as it takes: a join that is
done when no poll waits for it is forgotten by the client, which then begins another
(3.0.12), and a group whose leader is polled at the wrong moments never comes to rest.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, final

from kafka import AsyncConsumerRebalanceListener
from kafka.future import Future
from kafka.structs import TopicPartition as Place

from stream_em_connectors.kafka.client import Rebalance, TopicPartition


class _Call(NamedTuple):
    """A callback that is due; the network thread awaits `done`."""

    name: str
    places: frozenset[TopicPartition]
    done: Future


class _Answer(NamedTuple):
    """What a poll returned or raised."""

    found: Mapping[Place, list[Any]]
    error: BaseException | None


@final
class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Hands the callbacks over, and waits for them without holding up the network."""

    def __init__(self, events: "SimpleQueue[_Call | _Answer]") -> None:
        self._events = events
        self.silent = False

    async def on_partitions_assigned(self, assigned: set[Place]) -> None:
        await self._hand_over("assigned", assigned)

    async def on_partitions_revoked(self, revoked: set[Place]) -> None:
        await self._hand_over("revoked", revoked)

    async def on_partitions_lost(self, lost: set[Place]) -> None:
        await self._hand_over("lost", lost)

    async def _hand_over(self, name: str, places: set[Place]) -> None:
        if self.silent or not places:
            return
        done = Future()
        self._events.put(_Call(name, frozenset(TopicPartition(*one) for one in places), done))
        await done


@final
class GroupPolling:
    """The thread that polls, and the positions as they were before it did."""

    def __init__(self, inner: Any, rebalance: Rebalance) -> None:
        self._inner, self._rebalance = inner, rebalance
        self._events: SimpleQueue[_Call | _Answer] = SimpleQueue()
        self._wanted: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._joining = False  # over several polls
        self.listener = _Listener(self._events)
        self.before: dict[TopicPartition, int] = {}  # also of partitions revoked since
        self._thread = Thread(target=self._run, name="stream-em-kafka-group", daemon=True)
        self._thread.start()

    def poll(self, timeout_ms: float, max_records: int) -> Mapping[Place, list[Any]]:
        """What the client's poll gives; callbacks run here. Raises what they raise."""
        deadline = time.monotonic() + timeout_ms / 1000
        if not self._joined(deadline):
            return {}
        self.before = {
            TopicPartition(*place): state.position.offset
            for place, state in self._inner._subscription.assignment.items()
            if state.position is not None
        }
        left = max(deadline - time.monotonic(), 0.0) * 1000
        self._wanted.put(partial(self._inner.poll, timeout_ms=left, max_records=max_records))
        answer = self._answer(None)
        return {} if answer is None else answer.found

    def _joined(self, deadline: float) -> bool:
        """Whether the group is at rest, as far as can be told by the deadline."""
        coordinator = self._inner._coordinator
        if not self._joining:
            if not (coordinator.rejoining or coordinator.need_rejoin()):
                return True
            coordinator.request_rejoin()
            self._joining = True
            self._wanted.put(coordinator.ensure_active_group)
        self._joining = self._answer(deadline) is None
        return not self._joining

    def _answer(self, deadline: float | None) -> _Answer | None:
        """What the other thread found; None when the deadline comes first."""
        failure: BaseException | None = None
        while True:
            try:
                wait = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                event = self._events.get(timeout=wait)
            except Empty:
                event = None
            if isinstance(event, _Call):
                failure = self._called(event) or failure
                continue
            error = failure or (event and event.error)
            if error is not None:
                self._joining = self._joining and event is None
                raise error
            return event

    @property
    def fenced_out(self) -> bool:
        """Its heart stops without a word when another member takes the same instance's place."""
        coordinator = self._inner._coordinator
        return coordinator.stable() and not coordinator._heartbeat_enabled

    def close(self) -> None:
        """No more callbacks, no more polls."""
        self.listener.silent = True
        self._wanted.put(None)

    def _called(self, call: _Call) -> BaseException | None:
        try:
            if call.name == "assigned":
                for place, offset in self._rebalance.assigned(call.places).items():
                    self._inner.seek(Place(*place), offset)
            elif call.name == "revoked":
                self._rebalance.revoked(call.places)
            else:
                self._rebalance.lost(call.places)
        except BaseException as error:
            return error
        finally:
            self._inner._net.call_soon_threadsafe(lambda: call.done.success(None))
        return None

    def _run(self) -> None:
        while (call := self._wanted.get()) is not None:
            try:
                found = call()
                self._events.put(_Answer(found if isinstance(found, dict) else {}, None))
            except BaseException as error:
                self._events.put(_Answer({}, error))
