"""The first records of a CSV file: names of columns, and which of them hold numbers."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.csv as pacsv

from stream_em_connectors.codecs.csv_cells import Dialect
from stream_em_connectors.codecs.csv_codec import CsvCodec, parsing, room
from stream_em_connectors.codecs.cutting import Spans
from stream_em_connectors.codecs.table import Fields
from stream_em_connectors.codecs.values import NUMBER, mostly_numbers


def numeric_columns(
    columns: Sequence[str], dialect: Dialect, data: bytes, spans: Spans
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the columns that hold numbers in these records, and of the others."""
    names = tuple(str(place) for place in range(len(columns)))  # headers may repeat a name
    texts = CsvCodec(Fields(names), dialect, names).texts(data, spans)
    pairs = list(zip(columns, texts, strict=True))
    numeric = tuple(name for name, cells in pairs if _numeric(cells, dialect))
    return numeric, tuple(name for name in columns if name not in numeric)


def header_cells(record: bytes, dialect: Dialect) -> tuple[str, ...]:
    """The cells of one record, however many. Raises `ValueError` if it is not readable.

    >>> header_cells(b'a,"b, c",', Dialect())
    ('a', 'b, c', '')
    """
    table = pacsv.read_csv(
        pa.BufferReader(record + b"\n"),
        read_options=pacsv.ReadOptions(
            use_threads=False, block_size=room(len(record)), encoding=dialect.encoding
        ),
        parse_options=parsing(dialect, True, None),
    )
    return tuple(table.column_names)


def _numeric(texts: Iterable[str], dialect: Dialect) -> bool:
    present = [text.strip(" \t") for text in texts if not dialect.absent(text)]
    good = sum(NUMBER.fullmatch(text.replace(dialect.decimal, ".")) is not None for text in present)
    return mostly_numbers(good, len(present) - good)
