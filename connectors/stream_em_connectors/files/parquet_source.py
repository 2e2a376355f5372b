"""Parquet files as a source."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, final

from stream_em.errors import SettingsError
from stream_em.streams import Json, Positions, Probe, Source, Stream
from stream_em_connectors.codecs import Fields
from stream_em_connectors.files.opening import file_probes, file_stream
from stream_em_connectors.files.parquet_opener import ParquetOpener, numeric_columns
from stream_em_connectors.files.settings import STANDARD_INPUT, common_identity, fields_of, settle
from stream_em_connectors.files.text_opener import picked


@final
@dataclass(frozen=True)
class ParquetSource(Source):
    """Rows of Parquet files.

    `path` is a file or a glob read in the order of names. `features` are names of
    columns; without them every numeric column of the first file, but for `weight`,
    `time` and `key`. A row with nulls is rejected, or has NaN there if `missing` is
    "learn". With `follow` new files that match are taken up once they are complete.

    >>> ParquetSource("part-*.parquet", features=("x", "y")).identity()["path"]
    'part-*.parquet'
    """

    kind: ClassVar[str] = "parquet"
    path: str
    features: tuple[str, ...] | list[str] | None = None
    weight: str | None = None
    time: str | None = None  # a timestamp, seconds, or ISO 8601 text
    key: str | None = None
    batch_size: int = 1000  # accepted rows
    missing: str = "reject"  # or "learn": NaN in the row
    max_reject_ratio: float = 0.5
    follow: bool = False  # wait for new files
    max_wait_ms: int = 1000  # with follow: a smaller batch is handed out after this
    start: str = "earliest"  # or "latest"; of a fresh run

    def __post_init__(self) -> None:
        settle(self)
        if self.path == STANDARD_INPUT:
            raise SettingsError(
                "path is -, but Parquet cannot be read from standard input, for its table of "
                "contents stands at the end; give a file or a glob"
            )

    def opened_at(self, positions: Positions | None) -> Stream:
        """Open for reading. Raises `Unreachable`, `SettingsError` or `SourceChanged`."""
        return file_stream(self, lambda paths: ParquetOpener(self._fields(paths[0])), positions)

    def _fields(self, path: str) -> Fields:
        features = self.features
        if features is None:
            features = picked(self, path, *numeric_columns(path))
        return fields_of(self, features)

    def probes(self) -> Iterator[Probe]:
        """The files, and what their rows are made of."""
        return file_probes(self, self.opened_at)

    def identity(self) -> dict[str, Json]:
        """Path and fields."""
        return common_identity(self)
