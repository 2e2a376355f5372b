"""Rows out to standard output, as JSON lines."""

import os
import sys
from collections.abc import Iterator
from typing import ClassVar, final

from stream_em.errors import SettingsError, SinkFailed
from stream_em.streams import Columns, Json, Probe, Sink
from stream_em_connectors.codecs.json_rows import json_lines
from stream_em_connectors.delivery import AT_LEAST_ONCE, promised
from stream_em_connectors.files.outputs import failed


@final
class StdoutSink(Sink):
    """One JSON object per row and line, on standard output.

    What was printed cannot be taken back, so after a crash rows may come twice.
    """

    kind: ClassVar[str] = "stdout"

    def __init__(self, delivery: str = AT_LEAST_ONCE) -> None:
        if promised(delivery):
            raise SettingsError(
                f"delivery is {delivery!r}, but standard output cannot be cut back: it is "
                f"{AT_LEAST_ONCE!r}; write to a file or a topic for exactly once"
            )
        self.name = "stdout"
        self.exactly_once = False

    def probes(self) -> Iterator[Probe]:
        """There is nothing that could be missing."""
        yield Probe("standard output", None)

    def begin(self, incarnation: str, overwrite: bool) -> Json:
        """Nothing to check."""

    def roll_back(self, extent: Json, number: int, incarnation: str) -> None:
        """Nothing can be taken back."""

    def write(self, columns: Columns) -> None:
        """Print rows at once. Raises `SinkFailed` when nobody reads them any more."""
        try:
            sys.stdout.buffer.write(json_lines(columns))
            sys.stdout.buffer.flush()
        except BrokenPipeError as error:
            _discard_the_rest()
            raise SinkFailed(
                "whoever read standard output has gone away; the last checkpoint holds: "
                "start again with a reader that stays, or write to a file"
            ) from error
        except OSError as error:
            _discard_the_rest()
            raise failed(self.name, error) from error

    def barrier(self, number: int) -> Json:
        """Everything is printed already."""

    def committed(self, number: int) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Standard output stays open; it belongs to the process."""


def _discard_the_rest() -> None:
    """Let the interpreter's last flush at exit go nowhere instead of failing again."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except OSError:  # standard output was replaced by something that is no file
        pass
