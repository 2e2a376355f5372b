"""CSV files as a source."""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, final

from stream_em.errors import SettingsError
from stream_em.streams import Json, Positions, Probe, Source, Stream
from stream_em_connectors.codecs import Fields
from stream_em_connectors.codecs.csv_cells import TEXT, Dialect
from stream_em_connectors.codecs.csv_codec import CsvCodec
from stream_em_connectors.codecs.csv_header import header_cells, numeric_columns
from stream_em_connectors.codecs.cutting import Spans, records
from stream_em_connectors.files.opening import file_probes, text_stream
from stream_em_connectors.files.settings import (
    at_least,
    common_identity,
    names,
    not_followed,
    settle,
    sign,
)
from stream_em_connectors.files.text_format import Begun, TextFormat

SAMPLE = 1000  # records looked at to choose features
UTF_8 = ("utf-8", "utf-8-sig", "ascii")
SIGNS = "\r\n\t ,;|\"'.+-0123456789eE"  # must be the same bytes in every encoding


@final
@dataclass(frozen=True)
class CsvSource(Source):
    """Rows of CSV files, plain, gzip or Zstandard, or of standard input.

    `path` is a file, a glob read in the order of names, or "-". `features` are names
    of columns; without them every column that is numeric in the first records of the
    first file, but for `weight`, `time` and `key`. A record that makes no row is
    rejected with its reason, and never takes another with it.

    >>> CsvSource("readings*.csv", features=["temperature"], delimiter=";").features
    ('temperature',)
    """

    kind: ClassVar[str] = "csv"
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
    delimiter: str = ","
    quote: str = '"'  # empty: quotes mean nothing
    header: bool = True
    columns: tuple[str, ...] | list[str] | None = None  # names where there is no header
    decimal: str = "."
    encoding: str = "utf-8"
    missing_values: tuple[str, ...] | list[str] = (
        "",
        "NA",
        "N/A",
        "n/a",
        "NaN",
        "nan",
        "NULL",
        "Null",
        "null",
        "None",
    )

    def __post_init__(self) -> None:
        settle(self)
        not_followed(self)
        at_least("max_record_bytes", self.max_record_bytes, 1)
        sign("delimiter", self.delimiter)
        sign("decimal", self.decimal)
        if self.quote != "":
            sign("quote", self.quote)
        if len({self.delimiter, self.decimal, self.quote}) < 3:
            raise SettingsError(
                f"delimiter {self.delimiter!r}, decimal {self.decimal!r} and quote {self.quote!r} "
                "must differ; decimal commas usually come with the delimiter ';'"
            )
        if self.header and self.columns is not None:
            raise SettingsError(
                "columns are given, but header = true takes the names from the first line; "
                "set header = false for files without a header, or leave columns out"
            )
        object.__setattr__(self, "columns", names("columns", self.columns))
        object.__setattr__(self, "missing_values", _texts(self.missing_values))
        _encoding(self.encoding)

    def opened_at(self, positions: Positions | None) -> Stream:
        """Open for reading. Raises `Unreachable`, `SettingsError` or `SourceChanged`."""
        return text_stream(self, CsvFormat(self), positions)

    def probes(self) -> Iterator[Probe]:
        """The files, and what their rows are made of."""
        return file_probes(self, self.opened_at)

    def identity(self) -> dict[str, Json]:
        """Path, fields and how the files are written."""
        return {
            **common_identity(self),
            "max_record_bytes": self.max_record_bytes,
            "delimiter": self.delimiter,
            "quote": self.quote,
            "header": self.header,
            "columns": None if self.columns is None else list(self.columns),
            "decimal": self.decimal,
            "encoding": self.encoding,
            "missing_values": list(self.missing_values),
        }


def _texts(given: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    good = isinstance(given, (list, tuple)) and all(isinstance(one, str) for one in given)
    if not good:
        raise SettingsError(f"missing_values is {given!r}, expected a list of texts")
    return tuple(given)


def _encoding(name: str) -> str:
    """Python's name of an encoding. Raises `SettingsError` for one that is not usable."""
    found = ""
    try:
        found = codecs.lookup(name).name
        usable = found in UTF_8 or SIGNS.encode(found) == SIGNS.encode("ascii")
    except (LookupError, TypeError, UnicodeError):
        usable = False
    if not usable:
        raise SettingsError(
            f"encoding is {name!r}, expected one that extends ASCII, such as utf-8 or latin-1; "
            "convert other files first"
        )
    return TEXT if found in UTF_8 else found


@final
class CsvFormat(TextFormat):
    """What the settings of a source say about its files."""

    def __init__(self, source: CsvSource) -> None:
        self.max_record_bytes = source.max_record_bytes
        self._header, self._columns = source.header, source.columns
        self._dialect = Dialect(
            delimiter=source.delimiter,
            quote=source.quote,
            decimal=source.decimal,
            encoding=_encoding(source.encoding),
            missing_values=tuple(source.missing_values),
        )

    def cut(self, data: bytes, begin: int) -> Spans:
        """Records from `begin` on; newlines inside quotes do not end one."""
        return records(data, begin, self._dialect.delimiter, self._dialect.quote)

    def begin(
        self, data: bytes, start: int, final: bool, fields: Fields, path: str
    ) -> Begun | None:
        """Names of the columns, and where the header ends."""
        found = self._layout(data, start, final)
        if found is None:
            if not final and len(data) - start > self.max_record_bytes:
                raise SettingsError(
                    f"the first record of {path} is longer than {self.max_record_bytes} bytes; "
                    "is it a CSV file, and are delimiter and quote right?"
                )
            return None
        columns, first = found
        for name in fields.names:
            if columns.count(name) != 1:
                raise SettingsError(_wrong_column(name, columns, path))
        return Begun(first, CsvCodec(fields, self._dialect, columns).decode)

    def _layout(self, data: bytes, start: int, final: bool) -> tuple[tuple[str, ...], int] | None:
        """The columns' names, and where the first record begins; None if not known yet."""
        if self._columns is not None:
            return tuple(self._columns), start
        record = _first_record(data, start, final, self.cut)
        if record is None:
            return None
        begin, end, after = record
        try:
            cells = header_cells(data[begin:end], self._dialect)
        except ValueError as error:
            raise SettingsError(
                f"the first record is no readable CSV ({error}); is it a CSV file, and are "
                "encoding, delimiter and quote right?"
            ) from error
        if not self._header:
            return tuple(str(place) for place in range(len(cells))), start
        return tuple(cell.strip() for cell in cells), after

    def numeric(
        self, data: bytes, start: int, final: bool
    ) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Columns that are numeric in the first thousand records."""
        if final and not data.endswith(b"\n"):
            data += b"\n"
        found = self._layout(data, start, final)
        if found is None:
            return None
        columns, first = found
        sample = self.cut(data, first).part(0, SAMPLE)
        if not len(sample):
            return None
        return numeric_columns(columns, self._dialect, data, sample)


def _first_record(
    data: bytes, start: int, final: bool, cut: Callable[[bytes, int], Spans]
) -> tuple[int, int, int] | None:
    """Begin, end and after of the first record that is not blank."""
    whole = data if not final or data.endswith(b"\n") else data + b"\n"
    spans = cut(whole, start)
    for place in range(len(spans)):
        begin, end = int(spans.starts[place]), int(spans.ends[place])
        if whole[begin:end].strip():
            return begin, end, min(int(spans.afters[place]), len(data))
    return None


def _wrong_column(name: str, columns: tuple[str, ...], path: str) -> str:
    known = ", ".join(columns[:50])
    if name in columns:
        return f"column {name!r} comes twice in {path}; its columns are: {known}"
    return (
        f"column {name!r} is not in {path}; its columns are: {known}; correct the name, "
        "or the delimiter if they look wrong"
    )
