"""Polling in a group: kafka-python calls back on its own thread, the port on the caller's.

Its network thread awaits the listener, so a listener that ends an epoch there would stop
the heartbeats, and one that commits would wait for itself. So a second thread polls, and
the caller, who waits for it, runs the callbacks meanwhile.
"""

from collections.abc import Mapping
from queue import SimpleQueue
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
        self._wanted: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self.listener = _Listener(self._events)
        self.before: dict[TopicPartition, int] = {}  # also of partitions revoked since
        self._thread = Thread(target=self._run, name="stream-em-kafka-group", daemon=True)
        self._thread.start()

    def poll(self, **wanted: Any) -> Mapping[Place, list[Any]]:
        """What the client's poll gives; callbacks run here. Raises what they raise."""
        self.before = {
            TopicPartition(*place): state.position.offset
            for place, state in self._inner._subscription.assignment.items()
            if state.position is not None
        }
        coordinator = self._inner._coordinator
        if coordinator.rejoining:
            # A poll that ends while it joins may forget that it does, and never finish.
            coordinator.request_rejoin()
        self._wanted.put(wanted)
        failure: BaseException | None = None
        while isinstance(event := self._events.get(), _Call):
            failure = self._answered(event) or failure
        error = failure or event.error
        if error is not None:
            raise error
        return event.found

    @property
    def fenced_out(self) -> bool:
        """Its heart stops without a word when another member takes the same instance's place."""
        coordinator = self._inner._coordinator
        return coordinator.stable() and not coordinator._heartbeat_enabled

    def close(self) -> None:
        """No more callbacks, no more polls."""
        self.listener.silent = True
        self._wanted.put(None)

    def _answered(self, call: _Call) -> BaseException | None:
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
        while (wanted := self._wanted.get()) is not None:
            try:
                self._events.put(_Answer(self._inner.poll(**wanted), None))
            except BaseException as error:
                self._events.put(_Answer({}, error))
