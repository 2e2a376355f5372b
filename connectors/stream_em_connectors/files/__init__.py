"""Files and standard streams, in and out: CSV, JSON lines, Parquet, standard output.

The names are found when they are first used, so that reading CSV does not load what
only Parquet needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_em_connectors.files.csv_source import CsvSource as CsvSource
    from stream_em_connectors.files.jsonl_sink import JsonLinesSink as JsonLinesSink
    from stream_em_connectors.files.jsonl_source import JsonLinesSource as JsonLinesSource
    from stream_em_connectors.files.parquet_sink import ParquetSink as ParquetSink
    from stream_em_connectors.files.parquet_source import ParquetSource as ParquetSource
    from stream_em_connectors.files.stdout_sink import StdoutSink as StdoutSink

__all__ = [
    "CsvSource",
    "JsonLinesSink",
    "JsonLinesSource",
    "ParquetSink",
    "ParquetSource",
    "StdoutSink",
]


def __getattr__(name: str) -> Any:
    rooms = {
        "CsvSource": "csv_source",
        "JsonLinesSink": "jsonl_sink",
        "JsonLinesSource": "jsonl_source",
        "ParquetSink": "parquet_sink",
        "ParquetSource": "parquet_source",
        "StdoutSink": "stdout_sink",
    }
    if name not in rooms:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{rooms[name]}"), name)
