"""Opening Parquet files, at their beginning or at a row."""

import os
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq

from stream_em.errors import SettingsError, Unreachable
from stream_em.streams import Json
from stream_em_connectors.codecs import Fields
from stream_em_connectors.codecs.columns import misfit, numeric
from stream_em_connectors.files.inputs import HEAD, head, opened
from stream_em_connectors.files.marks import digest, head_differs
from stream_em_connectors.files.parquet_reader import DAMAGED, ParquetReader
from stream_em_connectors.files.readers import Opener
from stream_em_connectors.files.text_reader import changed

MAGIC = b"PAR1"
BUFFER = 1 << 20  # bytes of a column read at once, so that large row groups stay on disk


@final
class ParquetOpener(Opener):
    """Opens Parquet files."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields

    def opened(self, path: str, source: str, mark: Json, grows: bool) -> ParquetReader:
        """Open a file at a row, and check that it has the columns."""
        identity = _identity(path)
        if mark is not None:
            self.verify(path, mark)
        parquet = _parquet(path)
        try:
            _check(path, parquet.schema_arrow, self.fields)
            first = 0 if mark is None else int(mark["offset"])
            return ParquetReader(source, parquet, identity, self.fields, first)
        except BaseException:
            parquet.close(force=True)
            raise

    def ready(self, path: str) -> bool:
        """Whether the file has its end: a Parquet file is complete or not readable at all."""
        try:
            return _last(path, len(MAGIC)) == MAGIC
        except OSError:
            return False

    def end(self, path: str, over: bool) -> Json:
        """Behind the last row."""
        reader = self.opened(path, path, None, False)
        try:
            reader.skip_to_end()
            return reader.mark()
        finally:
            reader.close()

    def verify(self, path: str, mark: Json) -> None:
        """Size and both ends of a file. Raises `SourceChanged`."""
        data = opened(path)
        try:
            problem = head_differs(mark, data)
        finally:
            data.close()
        found = _identity(path)
        if problem is None and found["size"] != mark["size"]:
            problem = f"it has {found['size']} bytes, it had {mark['size']}"
        if problem is None and found["foot"] != mark["foot"]:
            problem = "its last bytes are others than they were"
        if problem is not None:
            raise changed(path, problem)


def numeric_columns(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the numeric columns of a file, and of the others."""
    parquet = _parquet(path)
    schema = parquet.schema_arrow
    parquet.close(force=True)
    found = tuple(field.name for field in schema if numeric(field.type))
    return found, tuple(name for name in schema.names if name not in found)


def _parquet(path: str) -> pq.ParquetFile:
    opened(path).close()  # a missing or unreadable file says so in our words
    try:
        return pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
    except DAMAGED as error:
        raise Unreachable(f"{path} is no readable Parquet file ({error})") from error


def _check(path: str, schema: pa.Schema, fields: Fields) -> None:
    for name in fields.names:
        count = schema.names.count(name)
        if count != 1:
            what = "comes twice in" if count else "is not in"
            raise SettingsError(
                f"column {name!r} {what} {path}; its columns are: {', '.join(schema.names[:50])}"
            )
        problem = misfit(schema.field(name).type, name, fields)
        if problem is not None:
            raise SettingsError(f"column {name!r} of {path} {problem}")


def _identity(path: str) -> dict[str, Json]:
    data = opened(path)
    try:
        status = os.fstat(data.fileno)
        first = head(data)
    finally:
        data.close()
    return {
        "head_bytes": len(first),
        "head": digest(first),
        "foot": digest(_last(path, HEAD)),
        "size": status.st_size,
        "inode": status.st_ino,
    }


def _last(path: str, length: int) -> bytes:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - length))
        return file.read(length)
