"""Standard input as a feed: no name, no position, no way back."""

import os
import select
import sys
from collections.abc import Sequence
from typing import Any, final

from stream_em.errors import SettingsError, SourceFailed
from stream_em.streams import Positions, Progress
from stream_em_connectors.codecs import Fields
from stream_em_connectors.files.chunks import Chunk, Passed
from stream_em_connectors.files.feeds import Feed
from stream_em_connectors.files.inputs import ByteInput
from stream_em_connectors.files.marks import RecordCounts
from stream_em_connectors.files.settings import STANDARD_INPUT
from stream_em_connectors.files.text_format import TextFormat, first_byte
from stream_em_connectors.files.text_reader import TextReader

ENOUGH = 1 << 20  # bytes gathered before they are decoded, if they are there


@final
class PipeInput(ByteInput):
    """What a pipe, a terminal or a redirected file hands over, never waiting for more."""

    def __init__(self, file: Any, first: bytes = b"") -> None:
        self.path, self.offset = STANDARD_INPUT, 0
        self._file, self._first = file, first
        self._descriptor = _descriptor(file)
        self.ended = False

    def ready(self, seconds: float) -> bool:
        """Whether something can be read within `seconds`; the end counts."""
        if self._first or self.ended or self._descriptor is None:
            return True
        return bool(select.select([self._descriptor], [], [], seconds)[0])

    def read(self, most: int) -> bytes:
        """What is there, up to a MiB. Empty also when nothing is there yet: see `ended`."""
        parts = [self._first] if self._first else []
        self._first = b""
        while sum(map(len, parts)) < ENOUGH and not self.ended and self.ready(0):
            data = self._some(min(most, ENOUGH))
            self.ended = not data
            parts.append(data)
        found = b"".join(parts)
        self.offset += len(found)
        return found

    def _some(self, most: int) -> bytes:
        try:
            if self._descriptor is None:
                return bytes(self._file.read(most))
            return os.read(self._descriptor, most)
        except OSError as error:
            raise SourceFailed(f"standard input cannot be read any further ({error})") from error

    def jump(self, offset: int, last: bytes = b"") -> bytes:
        """Not possible, and never asked for."""
        raise SettingsError("standard input cannot be read from a position; give a file instead")

    @property
    def fileno(self) -> int:
        """The descriptor."""
        return int(self._file.fileno())

    @property
    def raw_offset(self) -> int:
        """Bytes read."""
        return self.offset

    def close(self) -> None:
        """Nothing: it is not ours to close."""


def _descriptor(file: Any) -> int | None:
    """The file's descriptor, None for something in memory that only looks like a file."""
    try:
        return int(file.fileno())
    except (OSError, AttributeError, ValueError):
        return None


@final
class StandardInput(Feed):
    """Records of standard input. Positions only count them."""

    def __init__(
        self, text: TextFormat, fields: Fields, first: bytes, start: Positions | None
    ) -> None:
        records = 0
        if start is not None:
            records = int(start.parts.get(STANDARD_INPUT, {"records": 0})["records"])
        self.positions = Positions({STANDARD_INPUT: {"records": records}})
        self._input = PipeInput(sys.stdin.buffer, first)
        self._reader = TextReader(
            STANDARD_INPUT, self._input, text, fields, RecordCounts(), True, records
        )
        self.exhausted, self.waits = False, True

    def take(self) -> Sequence[Chunk | Passed]:
        """What is there; at the end the last line, even without an end of its own."""
        chunk = self._reader.next_chunk()
        if chunk is not None:
            return (chunk,)
        if not self._input.ended or self.exhausted:
            return ()
        self.exhausted = True
        last = self._reader.finish()
        return () if last is None else (last,)

    def wait(self, seconds: float) -> None:
        """Until something comes."""
        self._input.ready(seconds)

    def progress(self) -> Progress:
        """Bytes read; the end is not known."""
        return Progress(self._input.raw_offset, None)

    def close(self) -> None:
        """Read no further."""
        self.exhausted = True


def first_bytes(text: TextFormat) -> bytes:
    """Read on until there is a whole record to choose features from, or the end."""
    pipe, data = PipeInput(sys.stdin.buffer), b""
    while not pipe.ended:
        pipe.ready(1.0)
        data += pipe.read(ENOUGH)
        start = first_byte(data, pipe.ended)
        if start is not None and text.numeric(data, start, pipe.ended) is not None:
            break
        if len(data) > 4 * ENOUGH:
            break
    return data
