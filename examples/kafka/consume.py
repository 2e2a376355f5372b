"""Print a topic as it grows: only what is committed, as readers of exactly-once outputs should.

::

    python examples/kafka/consume.py assignments
"""

import argparse
import contextlib
import sys

from kafka import KafkaConsumer


def main() -> None:
    """Print key and value of each record until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Print the committed records of a Kafka topic.")
    parser.add_argument("topic")
    parser.add_argument("--bootstrap-servers", default="127.0.0.1:9092", metavar="HOST:PORT")
    told = parser.parse_args()
    consumer = KafkaConsumer(
        told.topic,
        bootstrap_servers=told.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for record in consumer:
            key, value = (part or b"" for part in (record.key, record.value))
            sys.stdout.write(f"{key.decode(errors='replace')} {value.decode(errors='replace')}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
