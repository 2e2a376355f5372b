"""CSV records to rows: pyarrow for whole blocks, a closer look only where it stumbles.

What a record means is defined by `csv_cells.row_of`; the quick path takes a record
only where both agree, everything else is judged on its own.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from stream_em.arrays import Array
from stream_em_connectors.codecs.columns import floats, observed
from stream_em_connectors.codecs.csv_cells import TEXT, Dialect, row_of
from stream_em_connectors.codecs.cutting import NEWLINE, RETURN, Block, Spans
from stream_em_connectors.codecs.table import (
    Decoded,
    Fields,
    Flaw,
    Raw,
    Row,
    blank,
    doubtful,
    settled,
)
from stream_em_connectors.codecs.values import NUMBER, seconds_or_infinity

PIECE = 1 << 19  # bytes that pyarrow gives to one of its threads
REFUSED = (pa.ArrowInvalid, UnicodeDecodeError)
Verdict = Row | Flaw
SEVERAL = Flaw("schema", None, "it reads as several records; is a carriage return inside it?")


@final
class CsvCodec:
    """Decodes blocks of CSV records that all have the given columns.

    >>> from stream_em_connectors.codecs.cutting import lines
    >>> block = b"1,2\\n3,four\\n"
    >>> found = CsvCodec(Fields(("a", "b")), Dialect(), ("a", "b")).decode(block, lines(block))
    >>> found.rows, found.flaws[0][1].field
    (array([[1., 2.]]), 'b')
    """

    def __init__(self, fields: Fields, dialect: Dialect, columns: Sequence[str]) -> None:
        self._fields, self._dialect = fields, dialect
        self._columns = [str(place) for place in range(len(columns))]
        self._place = {name: str(list(columns).index(name)) for name in fields.names}
        read = list(self._place.values()) or ["0"]
        texts = [name for name in (fields.time, fields.key) if name is not None]
        types = dict.fromkeys(read, pa.float64())
        types.update((self._place[name], pa.string()) for name in texts)
        self._typed = _conversion(dialect, types)
        self._plain = _conversion(dialect, dict.fromkeys(read, pa.string()))
        self._alone = fields.missing and len(columns) == 1  # a blank line may look like a cell
        self._codes = np.array(_codes(dialect))

    def decode(self, data: bytes, spans: Spans) -> Decoded:
        """Rows of the records that are good, flaws of the others."""
        raw = blank(len(spans), self._fields)
        block = Block(data, spans, np.arange(len(spans)))
        verdicts: dict[int, Verdict] = dict(_unreadable(block, self._dialect))
        for place in _stray_returns(block) - verdicts.keys():
            self._judge(block.chosen(np.array([place])), verdicts)
        if verdicts or not block.dense:
            block = block.chosen(np.delete(block.places, list(verdicts)))
        self._fill(block, raw, verdicts)
        missing = self._fields.missing and not self._alone
        doubts = [place for place in doubtful(raw, missing) if place not in verdicts]
        if doubts:
            self._judge(block.chosen(np.searchsorted(block.places, doubts)), verdicts)
        return settled(raw, verdicts)

    def texts(self, data: bytes, spans: Spans) -> list[list[str]]:
        """The cells of all records of the right width as text, one list for each field."""
        block = Block(data, spans, np.arange(len(spans)))
        unreadable = [place for place, _ in _unreadable(block, self._dialect)]
        unreadable.extend(_stray_returns(block))
        block = block.chosen(np.delete(block.places, unreadable))
        if not len(block):
            return [[] for _ in self._fields.names]
        table = self._table(block, self._plain, _noting({}, block))
        return [table.column(self._place[name]).to_pylist() for name in self._fields.names]

    def _fill(self, block: Block, raw: Raw, verdicts: dict[int, Verdict]) -> None:
        """Columns of a block: quickly if the parser takes every cell, else with more care."""
        if not len(block):
            return
        try:
            table = self._table(block, self._typed, None)
            if table.num_rows == len(block):
                self._take(table, block.places, raw, self._observed)
                return
        except REFUSED:
            pass
        self._fill_carefully(block, raw, verdicts)

    def _fill_carefully(self, block: Block, raw: Raw, verdicts: dict[int, Verdict]) -> None:
        """The same by way of text; what is no number stays NaN, to be judged on its own."""
        found: dict[int, Verdict] = {}  # by place in the block
        try:
            table = self._table(block, self._plain, _noting(found, block))
            if table.num_rows + len(found) != len(block):
                raise pa.ArrowInvalid("the parser sees other records")
        except REFUSED:
            for piece in block.pieces(2) if len(block) > 1 else ():
                self._fill_carefully(piece, raw, verdicts)
            return
        verdicts.update((int(block.places[place]), flaw) for place, flaw in found.items())
        if table.num_rows:
            self._take(table, np.delete(block.places, list(found)), raw, self._lenient)

    def _observed(self, column: pa.ChunkedArray) -> Array:
        """Float64 and NaN for absent cells; what may stand for absence is left to be judged."""
        learned = self._fields.missing
        values = observed(column) if learned else floats(column)
        if len(self._codes):
            values = np.where(np.isin(values, self._codes), np.inf if learned else np.nan, values)
        return values

    def _lenient(self, column: pa.ChunkedArray) -> Array:
        """Float64 of the cells that are numbers, NaN of the others.

        Where features may be missing NaN is for absent cells, infinity for all the rest.
        """
        trimmed = pc.utf8_trim(column, characters=" \t")
        point = re.escape(self._dialect.decimal)
        pattern = rf"^[+-]?(\d+{point}?\d*|{point}\d+)([eE][+-]?\d+)?$"
        good = pc.match_substring_regex(trimmed, pattern)
        nothing = pa.scalar(None, pa.string())
        numbers = pc.if_else(good, trimmed, nothing)
        if self._fields.missing:
            numbers = pc.if_else(good, trimmed, pa.scalar("inf"))
        absent = pc.is_in(trimmed, pa.array(self._dialect.missing_values, pa.string()))
        numbers = pc.if_else(absent, nothing, numbers)
        if self._dialect.decimal != ".":
            numbers = pc.replace_substring(numbers, self._dialect.decimal, ".")
        return floats(numbers)

    def _take(
        self,
        table: pa.Table,
        places: Array,
        raw: Raw,
        numbers: Callable[[pa.ChunkedArray], Array],
    ) -> None:
        fields = self._fields
        first, last = int(places[0]), int(places[-1]) + 1
        chosen: Any = slice(first, last) if last - first == len(places) else places
        for j, name in enumerate(fields.features):
            raw.rows[chosen, j] = numbers(table.column(self._place[name]))
        if raw.weights is not None and fields.weight is not None:
            raw.weights[chosen] = numbers(table.column(self._place[fields.weight]))
        if raw.times is not None and fields.time is not None:
            raw.times[chosen] = self._seconds(table.column(self._place[fields.time]))
        if raw.keys is not None and fields.key is not None:
            texts = table.column(self._place[fields.key]).to_pylist()
            for place, text in zip(places.tolist(), texts, strict=True):
                raw.keys[place] = text

    def _seconds(self, column: pa.ChunkedArray) -> Array:
        """A column of text as seconds: all numbers, all times, or whatever each cell is."""
        try:
            return floats(column)
        except pa.ArrowInvalid:
            pass
        for zone in (None, "UTC"):
            try:
                moments = pc.cast(column, pa.timestamp("us", zone))
                return floats(pc.cast(moments, pa.int64())) / 1e6
            except pa.ArrowInvalid:
                continue
        cells = [None if self._dialect.absent(text) else text for text in column.to_pylist()]
        return np.array(seconds_or_infinity(cells, self._dialect.decimal))

    def _judge(self, block: Block, verdicts: dict[int, Verdict]) -> None:
        """Each record of a block on its own, by the meaning of its cells."""
        found: dict[int, Verdict] = {}  # by place in the block
        try:
            table = self._table(block, self._plain, _noting(found, block))
            problem = None if table.num_rows + len(found) == len(block) else SEVERAL
        except REFUSED as error:
            problem = Flaw("decode_error", None, f"no readable CSV record: {error}")
        if problem is None:
            right = [place for place in range(len(block)) if place not in found]
            found.update(zip(right, self._rows(table, block, right), strict=True))
        elif len(block) == 1:
            found = {0: problem}
        else:
            for piece in block.pieces(2):
                self._judge(piece, verdicts)
            return
        verdicts.update((int(block.places[place]), verdict) for place, verdict in found.items())

    def _rows(self, table: pa.Table, block: Block, right: list[int]) -> Iterator[Verdict]:
        names = self._fields.names
        columns = [table.column(self._place[name]).to_pylist() for name in names]
        for row, place in enumerate(right):
            cells = {name: column[row] for name, column in zip(names, columns, strict=True)}
            verdict = row_of(cells, self._fields, self._dialect)
            closer = self._alone or isinstance(verdict, Flaw)
            yield (_blank_line(block, place) if closer else None) or verdict

    def _table(
        self, block: Block, options: pacsv.ConvertOptions, wrong: Callable[[Any], str] | None
    ) -> pa.Table:
        begin, end = int(block.spans.starts[0]), int(block.spans.afters[-1])
        quote = self._dialect.quote
        quoted = bool(quote) and block.data.find(quote.encode(), begin, end) >= 0
        alone = quoted or wrong is not None or end - begin < 2 * PIECE
        return pacsv.read_csv(
            pa.BufferReader(pa.py_buffer(self._unmarked(block.data, begin, end))),
            read_options=pacsv.ReadOptions(
                use_threads=not alone,
                block_size=room(end - begin) if alone else PIECE,
                column_names=self._columns,
                encoding=TEXT if block.data.isascii() else self._dialect.encoding,
            ),
            parse_options=parsing(self._dialect, quoted, wrong),
            convert_options=options,
        )

    def _unmarked(self, data: bytes, begin: int, end: int) -> memoryview | bytes:
        """The bytes for the parser, which swallows one byte order mark at their beginning.

        A record that begins with one is to mean the same there as in the middle.
        """
        marked = self._dialect.encoding == TEXT and data.startswith(BOM_UTF8, begin, end)
        return BOM_UTF8 + data[begin:end] if marked else memoryview(data)[begin:end]


def _codes(dialect: Dialect) -> list[float]:
    """The numbers among the texts that stand for a missing value, such as -999."""
    texts = [text.replace(dialect.decimal, ".") for text in dialect.missing_values]
    return [float(text) for text in texts if NUMBER.fullmatch(text)]


def room(length: int) -> int:
    """A block size in which so many bytes fit as one block, also when recoded to UTF-8."""
    return 4 * length + 16


def parsing(
    dialect: Dialect, quoted: bool, wrong: Callable[[Any], str] | None
) -> pacsv.ParseOptions:
    """How pyarrow should see the cells; `wrong` is told of rows of another width."""
    return pacsv.ParseOptions(
        delimiter=dialect.delimiter,
        quote_char=dialect.quote or False,
        newlines_in_values=quoted,
        ignore_empty_lines=False,
        invalid_row_handler=wrong,
    )


def _conversion(dialect: Dialect, types: dict[str, pa.DataType]) -> pacsv.ConvertOptions:
    return pacsv.ConvertOptions(
        check_utf8=False,  # checked for the whole block at once
        column_types=types,
        include_columns=list(types),
        null_values=list(dialect.missing_values),
        strings_can_be_null=False,
        decimal_point=dialect.decimal,
    )


def _noting(found: dict[int, Verdict], block: Block) -> Callable[[Any], str]:
    """A handler for the parser that notes rows of another width and goes on."""

    def note(row: Any) -> str:
        detail = f"{row.actual_columns} cells came, expected {row.expected_columns}"
        place = row.number - 1
        found[place] = _blank_line(block, place) or Flaw("schema", None, detail)
        return "skip"

    return note


def _blank_line(block: Block, place: int) -> Flaw | None:
    """The flaw of a record that is blank; a place beyond the block is the parser's own idea."""
    beyond = place >= len(block)
    if beyond or block.data[block.spans.starts[place] : block.spans.ends[place]].strip():
        return None
    return Flaw("empty", None, "a blank line came")


def _unreadable(block: Block, dialect: Dialect) -> Iterator[tuple[int, Flaw]]:
    """Records the parser must not see: empty ones, and other encodings."""
    if not dialect.is_text(block.data):
        for place, record in enumerate(block.spans.of(block.data)):
            if not dialect.is_text(record):
                detail = f"the record is no text in {dialect.encoding}"
                yield place, Flaw("decode_error", None, detail)
    for place in np.flatnonzero(block.spans.ends == block.spans.starts).tolist():
        yield place, Flaw("empty", None, "a blank line came")


def _stray_returns(block: Block) -> set[int]:
    """Records with a carriage return inside, which the parser may take for their end."""
    if b"\r" not in block.data or not len(block):
        return set()
    view = np.frombuffer(block.data, dtype=np.uint8)
    returns = np.flatnonzero(view == RETURN)
    stray = returns[view[np.minimum(returns + 1, len(view) - 1)] != NEWLINE]
    places = np.searchsorted(block.spans.starts, stray, side="right") - 1
    inside = (places >= 0) & (stray < block.spans.ends[places])
    return {int(place) for place in places[inside]}
