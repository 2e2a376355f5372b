"""Avro messages: plain binary datums of one schema, or with the wire header of a registry."""

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import chain
from operator import itemgetter
from typing import Any, final

import numpy as np

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.streams import Json
from stream_em_connectors.codecs.objects import NUMBERS, at, check_paths, row_of, times_of
from stream_em_connectors.codecs.table import (
    Decoded,
    Fields,
    Flaw,
    FlawError,
    Raw,
    Row,
    doubtful,
    settled,
)

HEADER = 5  # bytes: a zero, and the schema's id in the registry, big-endian
PLAIN = (str, int, float, bool, type(None))


def parsed_schema(schema: Json) -> dict[str, Any]:
    """An Avro schema, parsed. Raises `SettingsError` for what is none, or none of a record."""
    try:
        import fastavro
    except ImportError:
        raise SettingsError(
            "codec avro needs the package fastavro, which is not installed; "
            "install it with: pip install 'stream-em[avro]'"
        ) from None
    try:
        parsed = fastavro.parse_schema(schema)
    except Exception as error:
        raise SettingsError(f"the schema is no Avro schema ({error}); correct the file") from error
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise SettingsError("the schema is not that of a record, expected one with named fields")
    found: dict[str, Any] = parsed
    return found


@final
class AvroCodec:
    """Decodes binary datums of a record schema; a name with dots walks into nested records.

    With `wire_format` five bytes stand before each datum: a zero and the schema's id. The
    id is compared with `schema_id` where one is given. Raises `SettingsError` when a field
    is not in the schema.
    """

    def __init__(
        self, fields: Fields, schema: Json, wire_format: bool = False, schema_id: int | None = None
    ) -> None:
        check_paths(fields)
        self._fields, self._schema = fields, parsed_schema(schema)
        from fastavro import schemaless_reader

        self._reader = schemaless_reader
        self._wire, self._id = wire_format, schema_id
        names = [one["name"] for one in self._schema["fields"]]
        for name in fields.names:
            if name.split(".")[0] not in names:
                raise SettingsError(
                    f"field {name!r} is not in the Avro schema; its fields are: {', '.join(names)}"
                )
        self._filler = dict.fromkeys(names)
        self._features = _getter(fields.features)

    def decode(self, records: Sequence[bytes]) -> Decoded:
        """Rows of the records that are good, flaws of the others."""
        items: list[Any] = []
        verdicts: dict[int, Row | Flaw] = {}
        for place, record in enumerate(records):
            try:
                items.append(self._read(record))
            except FlawError as error:
                verdicts[place] = error.flaw
                items.append(self._filler)
        raw = self._raw(items)
        for place in doubtful(raw, self._fields.missing):
            if place not in verdicts:
                verdicts[place] = self._judged(items[place])
        return settled(raw, verdicts)

    def _read(self, record: bytes) -> Any:
        stream = BytesIO(record)
        if self._wire:
            self._check_header(stream.read(HEADER))
        try:
            item = self._reader(stream, self._schema)
        except Exception as error:  # whatever foreign bytes make of a decoder
            detail = f"no datum of the schema: {type(error).__name__} {error}"
            raise FlawError("decode_error", None, detail) from None
        left = len(record) - stream.tell()
        if left:
            detail = f"{left} bytes follow the datum; was it written with another schema?"
            raise FlawError("decode_error", None, detail)
        return item

    def _check_header(self, header: bytes) -> None:
        if len(header) < HEADER or header[0] != 0:
            detail = f"{header!r} came, expected a zero and four bytes of schema id"
            raise FlawError("decode_error", None, detail)
        came = int.from_bytes(header[1:], "big")
        if self._id is not None and came != self._id:
            raise FlawError("schema", None, f"schema id {came} came, expected {self._id}")

    def _raw(self, items: list[Any]) -> Raw:
        n, fields = len(items), self._fields
        values = _numbers(list(chain.from_iterable(map(self._features, items))))
        return Raw(
            rows=values.reshape(n, len(fields.features)),
            weights=_column(items, fields.weight, _numbers),
            times=_column(items, fields.time, lambda values: times_of(values, np.float64)),
            keys=None if fields.key is None else [_key(at(item, fields.key)) for item in items],
        )

    def _judged(self, item: Any) -> Row | Flaw:
        try:
            row = row_of(item, self._fields)
        except FlawError as error:
            return error.flaw
        return row._replace(key=_key(row.key))


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """All values of an item as a tuple."""
    if len(names) > 1 and not any("." in name for name in names):
        return itemgetter(*names)
    return lambda item: tuple(at(item, name) for name in names)


def _column(items: list[Any], name: str | None, made: Callable[[list[Any]], Array]) -> Array | None:
    return None if name is None else made([at(item, name) for item in items])


def _numbers(values: list[Any]) -> Array:
    """Numbers as they are, NaN for None, an infinity for what needs a closer look."""
    if not NUMBERS.issuperset(map(type, values)):
        values = [value if type(value) in NUMBERS else math.inf for value in values]
    return np.array(values, dtype=np.float64)


def _key(value: Any) -> Json:
    return value if isinstance(value, PLAIN) else str(value)
