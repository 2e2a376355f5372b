"""`codec = "json"`, or a table: how the value of a record is written."""

import codecs
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, final

from stream_em.errors import SettingsError
from stream_em.streams import Json as Plain
from stream_em_connectors.codecs import Fields
from stream_em_connectors.codecs.csv_cells import TEXT, Dialect
from stream_em_connectors.codecs.json_codec import JsonCodec
from stream_em_connectors.codecs.messages.avro import AvroCodec
from stream_em_connectors.codecs.messages.csv import CsvMessages
from stream_em_connectors.codecs.messages.floats import FloatsCodec
from stream_em_connectors.files.settings import at_least, names, sign
from stream_em_connectors.kafka.intake import Decode

UTF_8 = ("utf-8", "utf-8-sig", "ascii")
SIGNS = "\r\n\t ,;|\"'.+-0123456789eE"  # must be the same bytes in every encoding
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "Null", "null", "None")
Names = tuple[str, ...] | list[str] | None


class Codec(ABC):
    """How values are written. Subclasses are frozen dataclasses, final, and have a `kind`."""

    kind: ClassVar[str]

    @abstractmethod
    def decoder(self, wanted: Fields) -> Decode:
        """What decodes the wanted fields. Raises `SettingsError` for fields it cannot find."""

    def identity(self) -> dict[str, Plain]:
        """The settings that may not change once rows are learned: all of them."""
        settings: Any = self
        values = {one.name: getattr(self, one.name) for one in fields(settings)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return {"kind": self.kind, **plain}


@final
@dataclass(frozen=True)
class Json(Codec):
    """One JSON object; a name with dots reads a nested field."""

    kind: ClassVar[str] = "json"

    def decoder(self, wanted: Fields) -> Decode:
        """Record by record."""
        return JsonCodec(wanted).decode


@final
@dataclass(frozen=True)
class Csv(Codec):
    """One CSV record without a header.

    `columns` name its cells; without them they are the features, then the fields of
    weight, time and key.
    """

    kind: ClassVar[str] = "csv"
    columns: Names = None
    delimiter: str = ","
    quote: str = '"'  # empty: quotes mean nothing
    decimal: str = "."
    encoding: str = "utf-8"
    missing_values: tuple[str, ...] | list[str] = MISSING

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", names("columns", self.columns))
        object.__setattr__(self, "missing_values", tuple(self.missing_values))
        sign("delimiter", self.delimiter)
        sign("decimal", self.decimal)
        if self.quote != "":
            sign("quote", self.quote)
        if len({self.delimiter, self.decimal, self.quote}) < 3:
            raise SettingsError(
                f"delimiter {self.delimiter!r}, decimal {self.decimal!r} and quote {self.quote!r} "
                "must differ; decimal commas usually come with the delimiter ';'"
            )
        _encoding(self.encoding)

    def decoder(self, wanted: Fields) -> Decode:
        """A run of records as one block."""
        dialect = Dialect(
            delimiter=self.delimiter,
            quote=self.quote,
            decimal=self.decimal,
            encoding=_encoding(self.encoding),
            missing_values=tuple(self.missing_values),
        )
        return CsvMessages(wanted, dialect, _columns(self.columns, wanted)).decode


@final
@dataclass(frozen=True)
class Floats32(Codec):
    """Little-endian floats of 4 bytes, one for each of the columns."""

    kind: ClassVar[str] = "floats32"
    columns: Names = None  # default: the features, then the fields of weight, time and key

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", names("columns", self.columns))

    def decoder(self, wanted: Fields) -> Decode:
        """A run of records as one array."""
        return FloatsCodec(wanted, 4, _columns(self.columns, wanted)).decode


@final
@dataclass(frozen=True)
class Floats64(Codec):
    """Little-endian floats of 8 bytes, one for each of the columns."""

    kind: ClassVar[str] = "floats64"
    columns: Names = None  # default: the features, then the fields of weight, time and key

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", names("columns", self.columns))

    def decoder(self, wanted: Fields) -> Decode:
        """A run of records as one array."""
        return FloatsCodec(wanted, 8, _columns(self.columns, wanted)).decode


@final
@dataclass(frozen=True)
class Avro(Codec):
    """A binary Avro datum of the schema in a file; needs the extra `avro`.

    With `wire_format` the header of a schema registry stands before it. The registry is not
    asked: a schema that evolves should be told apart by `schema_id`.
    """

    kind: ClassVar[str] = "avro"
    schema_file: str
    wire_format: bool = False
    schema_id: int | None = None  # the only one accepted; None: any

    def __post_init__(self) -> None:
        if self.schema_id is not None:
            at_least("schema_id", self.schema_id, 0)
            if not self.wire_format:
                raise SettingsError(
                    f"schema_id is {self.schema_id}, but records have no schema ids without "
                    "wire_format = true; set that, or leave schema_id out"
                )

    def decoder(self, wanted: Fields) -> Decode:
        """Record by record."""
        return AvroCodec(wanted, self._schema(), self.wire_format, self.schema_id).decode

    def identity(self) -> dict[str, Plain]:
        """The schema itself, wherever its file lies."""
        return {
            "kind": self.kind,
            "schema": self._schema(),
            "wire_format": self.wire_format,
            "schema_id": self.schema_id,
        }

    def _schema(self) -> Plain:
        try:
            return json.loads(Path(self.schema_file).read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise SettingsError(
                f"schema_file {self.schema_file!r} is no readable JSON ({error}); expected an "
                "Avro schema (.avsc)"
            ) from error


def codec_of(said: Any) -> Codec:
    """The codec that a setting says: a codec, the name of one, or a table. Raises `SettingsError`.

    >>> codec_of({"kind": "csv", "delimiter": ";"}).delimiter
    ';'
    """
    if isinstance(said, Codec):
        return said
    table = {"kind": said} if isinstance(said, str) else said
    kinds: dict[str, Any] = {one.kind: one for one in (Json, Csv, Floats32, Floats64, Avro)}
    if not isinstance(table, Mapping) or table.get("kind") not in kinds:
        raise SettingsError(f"codec is {said!r}, expected one of, or a table: {', '.join(kinds)}")
    try:
        made: Codec = kinds[table["kind"]](**{k: v for k, v in table.items() if k != "kind"})
    except TypeError as error:
        raise SettingsError(f"codec {table['kind']}: {error}; correct its table") from None
    return made


def _columns(given: Names, wanted: Fields) -> Sequence[str]:
    if given is None:
        return wanted.names
    for name in wanted.names:
        if name not in given:
            raise SettingsError(
                f"field {name!r} is not among the codec's columns: {', '.join(given)}; "
                "correct the name, or add it in its place"
            )
    return given


def _encoding(name: Any) -> str:
    """Python's name of an encoding that extends ASCII. Raises `SettingsError` for others."""
    try:
        found = codecs.lookup(name).name
        usable = found in UTF_8 or SIGNS.encode(found) == SIGNS.encode("ascii")
    except (LookupError, TypeError, UnicodeError):
        found, usable = "", False
    if not usable:
        raise SettingsError(
            f"encoding is {name!r}, expected one that extends ASCII, such as utf-8 or latin-1"
        )
    return TEXT if found in UTF_8 else found
