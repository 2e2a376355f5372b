"""JSON lines as a source."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, final

from stream_em.streams import Json, Positions, Probe, Source, Stream
from stream_em_connectors.codecs import Decoded, Fields
from stream_em_connectors.codecs.cutting import Spans, lines
from stream_em_connectors.codecs.json_codec import JsonCodec, numeric_fields
from stream_em_connectors.files.opening import file_probes, text_stream
from stream_em_connectors.files.settings import (
    at_least,
    common_identity,
    fields_of,
    not_followed,
    settle,
)
from stream_em_connectors.files.text_format import Begun, TextFormat

SAMPLE = 1000  # records looked at to choose features


@final
@dataclass(frozen=True)
class JsonLinesSource(Source):
    """Rows of files with one JSON object a line, plain, gzip or Zstandard, or of standard input.

    A name with dots reads a nested field: "engine.pressure". Further fields are
    ignored. A record that makes no row is rejected with its reason.

    >>> JsonLinesSource("-", features=["x"]).seekable
    False
    """

    kind: ClassVar[str] = "jsonl"
    path: str
    features: tuple[str, ...] | list[str] | None = None
    weight: str | None = None
    time: str | None = None  # seconds, or ISO 8601, UTC where no offset is said
    key: str | None = None
    batch_size: int = 1000  # accepted rows
    missing: str = "reject"  # or "learn": NaN in the row
    max_reject_ratio: float = 0.5
    follow: bool = False  # wait for growth, rotation and new files
    max_wait_ms: int = 1000  # with follow: a smaller batch is handed out after this
    start: str = "earliest"  # or "latest"; of a fresh run
    max_record_bytes: int = 1_048_576  # a longer line is rejected

    def __post_init__(self) -> None:
        settle(self)
        not_followed(self)
        at_least("max_record_bytes", self.max_record_bytes, 1)
        if self.features is not None:
            JsonCodec(fields_of(self, self.features))

    def opened_at(self, positions: Positions | None) -> Stream:
        """Open for reading. Raises `Unreachable`, `SettingsError` or `SourceChanged`."""
        return text_stream(self, JsonLinesFormat(self.max_record_bytes), positions)

    def probes(self) -> Iterator[Probe]:
        """The files, and what their rows are made of."""
        return file_probes(self, self.opened_at)

    def identity(self) -> dict[str, Json]:
        """Path and fields."""
        return {**common_identity(self), "max_record_bytes": self.max_record_bytes}


@final
class JsonLinesFormat(TextFormat):
    """One JSON object a line."""

    def __init__(self, max_record_bytes: int) -> None:
        self.max_record_bytes = max_record_bytes

    def cut(self, data: bytes, begin: int) -> Spans:
        """Lines from `begin` on."""
        return lines(data, begin)

    def begin(
        self, data: bytes, start: int, final: bool, fields: Fields, path: str
    ) -> Begun | None:
        """Nothing stands before the records."""
        codec = JsonCodec(fields)

        def decode(block: bytes, spans: Spans) -> Decoded:
            return codec.decode(spans.of(block))

        return Begun(start, decode)

    def numeric(
        self, data: bytes, start: int, final: bool
    ) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Fields that are numeric in the first thousand records."""
        if final and not data.endswith(b"\n"):
            data += b"\n"
        records = [one for one in lines(data, start).part(0, SAMPLE).of(data) if one.strip()]
        return numeric_fields(records) if records else None
