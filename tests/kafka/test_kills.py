"""Real engines on a real broker, killed, frozen and cut off: nothing lost, nothing twice."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest

import stream_em as se
from stream_em.stores import DirectoryStore

ROWS, KILLS, PARTITIONS = 300_000, 25, 3
pytestmark = pytest.mark.timeout(600)

CONFIGURATION = """
[engine]
name = {name}

[source]
kind = "kafka"
bootstrap_servers = {bootstrap}
topics = [{source}]
group_id = {name}
codec = "json"
features = ["a", "at.b"]
client = {client}

[model]
kind = "gaussian-mixture"
n_components = 3

[[sinks]]
kind = "kafka"
bootstrap_servers = {bootstrap}
topic = {output}
delivery = "exactly-once"
client = {client}

[dead_letters]
kind = "kafka"
bootstrap_servers = {bootstrap}
topic = {dead}
delivery = "exactly-once"
client = {client}

[checkpoints]
directory = "checkpoints"
every_events = 20_000
every_seconds = 0.5

[http]
address = "off"
"""


@final
class Feed:
    """A producer that lets the records flow, so many at a time, on a thread of its own."""

    def __init__(self, produce: Callable[..., None], bootstrap: str, topic: str) -> None:
        self.produce, self.bootstrap, self.topic = produce, bootstrap, topic
        draw = np.random.default_rng(0)
        centres = np.array([[0.0, 0], [8, 0], [0, 8]])
        X = centres[draw.integers(3, size=ROWS)] + draw.normal(size=(ROWS, 2))
        values = [b'{"a":%.4f,"at":{"b":%.4f}}' % (a, b) for a, b in X.tolist()]
        values[500::1000] = [b'{"a":"n/a"}'] * len(values[500::1000])
        self.values = iter(values)
        self.sent = 0
        self.thread: threading.Thread | None = None

    def some(self, count: int) -> None:
        """Begin to send so many more."""
        self.wait()
        self.thread = threading.Thread(target=self._send, args=(count,))
        self.thread.start()

    def wait(self) -> None:
        if self.thread is not None:
            self.thread.join()

    def _send(self, count: int) -> None:
        values = list(itertools.islice(self.values, count))
        for place in range(PARTITIONS):
            mine = values[place::PARTITIONS]
            self.produce(self.topic, mine, place, bootstrap=self.bootstrap)
        self.sent += len(values)


@final
class World:
    """The topics, the folder, and the engines that come and go."""

    def __init__(self, folder: Path, bootstrap: str, client: str, names: list[str]) -> None:
        self.folder, self.bootstrap = folder, bootstrap
        self.source, self.output, self.dead = names
        self.name = f"engine-{names[0]}"
        texts = {
            "name": self.name,
            "bootstrap": bootstrap,
            "client": client,
            "source": self.source,
            "output": self.output,
            "dead": self.dead,
        }
        quoted = {key: json.dumps(text) for key, text in texts.items()}
        (folder / "run.toml").write_text(CONFIGURATION.format(**quoted))

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "stream_em", "run", "-c", "run.toml", "--no-progress"]
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen([*command, *options], cwd=self.folder, stdout=log, stderr=log)

    def checkpoints(self) -> set[str]:
        """Names of the files; each run writes its own, also under a number that was there."""
        return {path.name for path in self.folder.glob("checkpoints/*.ckpt")}

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()[-6000:]

    def moves_on(
        self, engine: subprocess.Popen[bytes], before: set[str], seconds: float = 60
    ) -> bool:
        """Wait for a checkpoint that is not among `before`; False if the engine ended instead."""
        deadline = time.monotonic() + seconds
        while self.checkpoints() <= before:
            if engine.poll() is not None:
                return False
            assert time.monotonic() < deadline, f"the engine does not move on:\n{self.log()}"
            time.sleep(0.005)
        return True


@pytest.fixture(params=["kafka-python", "librdkafka"])
def world(
    request: pytest.FixtureRequest, own_broker: Any, new_topic: Callable[..., str], tmp_path: Path
) -> World:
    names = [new_topic(own_broker.bootstrap, PARTITIONS) for _ in range(3)]
    return World(tmp_path, own_broker.bootstrap, request.param, names)


@pytest.fixture
def feed(world: World, produce: Callable[..., None]) -> Iterator[Feed]:
    feed = Feed(produce, world.bootstrap, world.source)
    yield feed
    feed.wait()


def finish(world: World, *options: str) -> dict[str, Any]:
    """A last run to the end of the topic."""
    summary = world.folder / "summary.json"
    engine = world.start("--until-end", "--summary-json", str(summary), *options)
    assert engine.wait(300) == 0, world.log()
    found: dict[str, Any] = json.loads(summary.read_text())
    return found


def whole(world: World, sent: int, read_topic: Any, committed_offsets: Any, broken: int) -> None:
    """The model, the outputs and the group's offsets agree: each record once."""
    store = DirectoryStore(str(world.folder / "checkpoints"))
    checkpoint = store.load(store.names()[-1])
    model, state = checkpoint.model, checkpoint.state
    found = se.clusters(model, state)
    assert state.total_events == sent - broken
    assert found.counts.sum() + found.background + state.held_rows == pytest.approx(sent - broken)
    rows = [json.loads(r.value) for r in read_topic(world.output, bootstrap=world.bootstrap)]
    dead = [json.loads(r.value) for r in read_topic(world.dead, bootstrap=world.bootstrap)]
    places = [(row["partition"], row["offset"]) for row in (*rows, *dead)]
    assert len(places) == len(set(places)) == sent
    assert {row["source"] for row in rows} == {world.source}
    assert len(dead) == checkpoint.rejected == broken
    offsets = committed_offsets(world.name, world.source, bootstrap=world.bootstrap)
    assert sum(offset for offset, _ in offsets.values()) == sent
    marker = committed_offsets(f"{world.name}.marker", world.output, bootstrap=world.bootstrap)
    offset, metadata = marker[0]
    assert offset == checkpoint.number
    assert store.names()[-1] in metadata
    assert store.digest(store.names()[-1])[:16] in metadata


def test_kills_at_random_moments_and_a_broker_that_goes_and_comes(
    world: World, feed: Feed, own_broker: Any, read_topic: Any, committed_offsets: Any
) -> None:
    draw = random.Random(os.environ.get("STREAM_EM_KILLS_SEED", "kafka"))
    lived = 0
    for life in range(KILLS):
        before = world.checkpoints()
        feed.some(ROWS // KILLS)
        engine = world.start()
        if life == KILLS // 2:
            assert world.moves_on(engine, before), world.log()
            own_broker.restart()
        elif draw.random() < 0.2:
            time.sleep(2 * draw.random())
        else:
            assert world.moves_on(engine, before), world.log()
        time.sleep(0.6 * draw.random() ** 2)
        lived += engine.poll() is None
        engine.send_signal(signal.SIGKILL)
        engine.wait()
    feed.wait()
    assert feed.sent == ROWS
    summary = finish(world)
    assert lived >= KILLS - 2, world.log()
    assert summary["total_events"] == ROWS - ROWS // 1000
    whole(world, ROWS, read_topic, committed_offsets, ROWS // 1000)


def test_a_frozen_engine_is_fenced_when_it_wakes(
    world: World, feed: Feed, read_topic: Any, committed_offsets: Any
) -> None:
    zombie = world.start()
    assert world.moves_on(zombie, set()), world.log()
    before = world.checkpoints()
    feed.some(30_000)
    assert world.moves_on(zombie, before), world.log()
    zombie.send_signal(signal.SIGSTOP)
    try:
        refused = world.start()
        assert refused.wait(60) == 4, world.log()
        before = world.checkpoints()
        feed.some(30_000)
        replacement = world.start("--take-over")
        assert world.moves_on(replacement, before), world.log()
        before = world.checkpoints()
        feed.some(30_000)
        zombie.send_signal(signal.SIGCONT)
        assert zombie.wait(120) == 1, world.log()
    finally:
        zombie.kill()
    feed.wait()
    assert world.moves_on(replacement, before), world.log()
    replacement.send_signal(signal.SIGTERM)
    assert replacement.wait(60) == 0, world.log()
    assert finish(world)["total_events"] == 90_000 - 90
    whole(world, 90_000, read_topic, committed_offsets, 90)
