"""What the cells of one CSV record mean."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stream_em_connectors.codecs.table import Fields, Flaw, FlawError, Row
from stream_em_connectors.codecs.values import as_weight, not_negative, number, seconds

TEXT = "utf8"


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written."""

    delimiter: str = ","
    quote: str = '"'  # empty: none
    decimal: str = "."
    encoding: str = TEXT
    missing_values: tuple[str, ...] = ("",)

    def absent(self, cell: str) -> bool:
        """Whether a cell says that its value is missing."""
        return cell.strip(" \t") in self.missing_values

    def is_text(self, data: bytes) -> bool:
        """Whether the bytes are text in this encoding."""
        if data.isascii():
            return True
        try:
            data.decode(self.encoding)
        except UnicodeDecodeError:
            return False
        return True


def row_of(cells: Mapping[str, str], fields: Fields, dialect: Dialect) -> Row | Flaw:
    """The row that the cells of a record make, or why they make none.

    >>> row_of({"x": "1,5"}, Fields(("x",)), Dialect(decimal=","))
    Row(values=(1.5,), weight=1.0, time=nan, key=None)
    """
    try:
        return Row(
            values=tuple(_feature(cells[name], name, fields, dialect) for name in fields.features),
            weight=1.0 if fields.weight is None else _weight(cells, fields.weight, dialect),
            time=math.nan if fields.time is None else _time(cells, fields.time, dialect),
            key=None if fields.key is None else cells[fields.key],
        )
    except FlawError as error:
        return error.flaw


def _feature(cell: str, name: str, fields: Fields, dialect: Dialect) -> float:
    if dialect.absent(cell):
        if fields.missing:
            return math.nan
        raise FlawError("missing_feature", name, f"{cell!r} came, expected a number")
    return number(cell, name, dialect.decimal)


def _weight(cells: Mapping[str, str], name: str, dialect: Dialect) -> float:
    if dialect.absent(cells[name]):
        raise FlawError("weight", name, f"{cells[name]!r} came, expected a number >= 0")
    try:
        return not_negative(number(cells[name], name, dialect.decimal), name)
    except FlawError as error:
        raise as_weight(error, name) from None


def _time(cells: Mapping[str, str], name: str, dialect: Dialect) -> float:
    if dialect.absent(cells[name]):
        return math.nan
    return seconds(cells[name], name, dialect.decimal)
