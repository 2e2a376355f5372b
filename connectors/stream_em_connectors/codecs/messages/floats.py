"""Messages of plain little-endian floats: read as one array where all have the right length."""

from collections.abc import Sequence
from typing import final

import numpy as np

from stream_em.arrays import Array
from stream_em_connectors.codecs.table import (
    Decoded,
    Fields,
    Flaw,
    FlawError,
    Raw,
    Row,
    blank,
    doubtful,
    settled,
)
from stream_em_connectors.codecs.values import as_weight, magnitude, not_negative


@final
class FloatsCodec:
    """Decodes messages that hold one float for each of the columns, `size` bytes wide.

    NaN is a missing value where the fields allow such, else it is refused.

    >>> codec = FloatsCodec(Fields(("x", "y")), 4, ("x", "y"))
    >>> found = codec.decode([np.array([1, 2], "<f4").tobytes(), b"short"])
    >>> found.rows, found.flaws[0][1].reason
    (array([[1., 2.]]), 'schema')
    """

    def __init__(self, fields: Fields, size: int, columns: Sequence[str]) -> None:
        self._fields, self._dtype, self._columns = fields, np.dtype(f"<f{size}"), len(columns)
        self._width = size * len(columns)
        self._place = {name: list(columns).index(name) for name in fields.names}
        chosen = [self._place[name] for name in fields.features]
        whole = chosen == list(range(len(columns)))
        self._chosen: slice | list[int] = slice(None) if whole else chosen

    def decode(self, records: Sequence[bytes]) -> Decoded:
        """Rows of the records that are good, flaws of the others."""
        verdicts: dict[int, Row | Flaw] = {}
        if set(map(len, records)) <= {self._width}:
            table = self._table(records)
            raw = self._raw(table)
        else:
            table = np.full((len(records), self._columns), np.nan)
            good = [i for i, record in enumerate(records) if len(record) == self._width]
            table[good] = self._table([records[i] for i in good])
            raw = self._raw(table) if good else blank(len(records), self._fields)
            wrong = set(range(len(records))).difference(good)
            verdicts.update((i, self._misfit(len(records[i]))) for i in wrong)
        for place in doubtful(raw, self._fields.missing):
            if place not in verdicts:
                verdicts[place] = self._judged(table[place])
        return settled(raw, verdicts)

    def _table(self, records: Sequence[bytes]) -> Array:
        joined = np.frombuffer(b"".join(records), self._dtype)
        return joined.reshape(len(records), self._columns)

    def _raw(self, table: Array) -> Raw:
        fields = self._fields
        return Raw(
            rows=table[:, self._chosen].astype(np.float64, order="C"),
            weights=self._column(table, fields.weight),
            times=self._column(table, fields.time),
            keys=None if fields.key is None else table[:, self._place[fields.key]].tolist(),
        )

    def _column(self, table: Array, name: str | None) -> Array | None:
        return None if name is None else table[:, self._place[name]].astype(np.float64)

    def _misfit(self, length: int) -> Flaw:
        each = self._dtype.itemsize
        return Flaw(
            "schema",
            None,
            f"{length} bytes came, expected {self._width}: {self._columns} floats of {each} bytes",
        )

    def _judged(self, values: Array) -> Row | Flaw:
        """One record on its own, by its values (C,)."""
        fields = self._fields
        try:
            return Row(
                values=tuple(self._feature(values, name) for name in fields.features),
                weight=1.0 if fields.weight is None else self._weight(values, fields.weight),
                time=np.nan if fields.time is None else self._time(values, fields.time),
                key=None if fields.key is None else float(values[self._place[fields.key]]),
            )
        except FlawError as error:
            return error.flaw

    def _feature(self, values: Array, name: str) -> float:
        value = float(values[self._place[name]])
        if value != value and self._fields.missing:
            return value
        return magnitude(value, name)

    def _weight(self, values: Array, name: str) -> float:
        try:
            return not_negative(magnitude(float(values[self._place[name]]), name), name)
        except FlawError as error:
            raise as_weight(error, name) from None

    def _time(self, values: Array, name: str) -> float:
        value = float(values[self._place[name]])
        if value != value:
            return value
        try:
            return magnitude(value, name)
        except FlawError as error:
            raise FlawError("decode_error", name, error.flaw.detail) from None
