"""The example of Kafka: what its producer sends is what its configuration reads."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stream_em.config import load


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_the_examples_producer_sends_what_its_configuration_reads(
    broker: Any, repository: Path, topic: Any, read_topic: Any, client: str
) -> None:
    folder, name, other = repository / "examples" / "kafka", f"{topic()}-new", topic()
    told = ("--bootstrap-servers", broker.bootstrap, "--client", client, "--topic", name)
    more = ("--create", name, other, "--rate", "0", "--records", "300")
    command = [sys.executable, str(folder / "produce.py"), *told, *more]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)
    assert said.stdout.startswith(f"300 records to {name}")
    source = load(folder / "readings.toml").source
    found = read_topic(name)
    rows = [json.loads(record.value) for record in found]
    assert len(rows) == 300
    assert all({*source.features, source.time} <= set(row) for row in rows)
    assert all(
        record.key.decode() == row["device"] for record, row in zip(found, rows, strict=True)
    )


def test_the_examples_outputs_share_one_transaction(repository: Path) -> None:
    plan = load(repository / "examples" / "kafka" / "readings.toml")
    assert plan.dead_letters is not None
    assert plan.sinks[0].cluster is not None
    assert plan.sinks[0].cluster == plan.dead_letters.cluster
