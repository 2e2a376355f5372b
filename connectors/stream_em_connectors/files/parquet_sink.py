"""Rows out as a folder of Parquet parts, one part from checkpoint to checkpoint.

A part is written as `.part-open-<incarnation>.tmp`, closed at the barrier of checkpoint
n as `.part-<n>-<incarnation>.tmp`, listed in that checkpoint, and becomes
`part-<n>.parquet` once it is committed. A reader of the folder sees whole parts only.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from os import PathLike, fspath
from pathlib import Path
from typing import ClassVar, NamedTuple, final

import pyarrow as pa
import pyarrow.parquet as pq

from stream_em.errors import OutputChanged, SinkFailed, Unreachable
from stream_em.streams import Columns, Json, Probe, Sink
from stream_em_connectors.delivery import promised
from stream_em_connectors.files.outputs import failed, folder_probe, lock, reaching, sync_folder
from stream_em_connectors.files.rows_arrow import record_batch, schema_of

ROW_GROUP, GROUP_BYTES = 65_536, 64 << 20  # rows, or bytes of them, gathered before a write

_PART = re.compile(r"part-(\d+)(?:\.\d+)?\.parquet")
_WAITING = re.compile(r"\.part-(\d+)(?:\.\d+)?-[^.]+\.tmp")
_OPEN = re.compile(r"\.part-open-[^.]+\.tmp")


class _Pending(NamedTuple):
    """A closed part that waits for its checkpoint."""

    number: int  # of the checkpoint
    temporary: str
    final: str
    size: int  # bytes


@final
class ParquetSink(Sink):
    """A folder of Parquet files. The folder is created when its parent exists.

    Exactly once: parts of checkpoints that are not true disappear on resume. With
    `append` a folder that already holds files is added to instead of refused.
    """

    kind: ClassVar[str] = "parquet"

    def __init__(
        self, path: str | PathLike[str], append: bool = False, delivery: str = "exactly-once"
    ) -> None:
        self.name = self.path = fspath(path)
        self.append = append
        self.exactly_once = promised(delivery)
        self._folder = Path(path)
        self._handle: int | None = None  # of the folder, for its lock
        self._incarnation = ""
        self._base = 0  # parts up to this number were there before the run
        self._overwritten: list[str] = []  # parts that go with the first checkpoint
        self._pending: list[_Pending] = []
        self._open: _Part | None = None
        self._schema: pa.Schema | None = None
        self._broken = False

    def probes(self) -> Iterator[Probe]:
        """The folder, or where it is to be."""
        yield folder_probe(self.path)

    def begin(self, incarnation: str, overwrite: bool) -> Json:
        """Create the folder, or take an empty one; with `append` or `overwrite` one with parts."""
        with reaching(self.path):
            self._lock_folder(incarnation)
            visible = [n for n in os.listdir(self._folder) if not n.startswith((".", "_"))]
            there = visible + self._matching(_WAITING)
            if there and not self.append:
                self._refuse(there, overwrite)
                self._overwritten = self._matching(_PART, _WAITING)
            self._delete(self._matching(_OPEN))
            kept = set(self._matching(_PART, _WAITING)) - set(self._overwritten)
            self._base = max(map(_number, kept), default=0)
            sync_folder(self.path)
        return self._extent()

    def roll_back(self, extent: Json, number: int, incarnation: str) -> None:
        """Finish the renames that checkpoint `number` lists; delete every later part."""
        with reaching(self.path):
            self._lock_folder(incarnation)
            if not isinstance(extent, dict) or not {"base", "parts"} <= set(extent):
                raise self._changed(f"holds Parquet parts, not what is recorded ({extent})")
            self._base = extent["base"]
            self._pending = [_Pending(*part) for part in extent["parts"]]
            for part in self._pending:
                self._check(part, number)
            self._rename_pending(number)
            later = {p for p in self._matching(_PART) if _number(p) > self._base + number}
            later.update(extent.get("overwritten", ()))
            self._delete([*later, *self._matching(_WAITING, _OPEN)])
            sync_folder(self.path)

    def write(self, columns: Columns) -> None:
        """Gather rows, and write them to the open part in row groups."""
        if self._handle is None or self._broken:
            raise SinkFailed(f"output {self.path} failed before or is closed; start the run again")
        try:
            if self._schema is None:
                self._schema = schema_of(columns)
            rows = record_batch(columns, self._schema)
            if rows.num_rows and self._open is None:
                path = self._folder / f".part-open-{self._incarnation}.tmp"
                self._open = _Part(path, rows.schema)
            if self._open is not None:
                self._open.add(rows)
        except (OSError, pa.ArrowException) as error:
            raise self._give_up(error) from error

    def barrier(self, number: int) -> Json:
        """Close the open part durably; the extent lists the parts that wait."""
        if self._broken:
            raise SinkFailed(f"output {self.path} failed before; start the run again")
        try:
            if self._open is not None:
                size = self._open.finish()
                self._pending.append(self._set_aside(self._open.path, number, size))
                self._open = None
                sync_folder(self.path)
        except (OSError, pa.ArrowException) as error:
            raise self._give_up(error) from error
        return self._extent()

    def committed(self, number: int) -> None:
        """Show the parts up to checkpoint `number`, and delete those that it overwrites."""
        overwritten, self._overwritten = self._overwritten, []
        try:
            self._delete(overwritten)
            if self._rename_pending(number) or overwritten:
                sync_folder(self.path)
        except OSError as error:
            raise self._give_up(error) from error

    def close(self) -> None:
        """Discard the open part and release the folder; parts that wait stay as they are."""
        if self._open is not None:
            self._open.discard()
        self._open = None
        self._pending = []
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None

    def _lock_folder(self, incarnation: str) -> None:
        self._incarnation = incarnation
        if self._open is not None:
            self._open.discard()
            self._open = None
        self._pending, self._overwritten = [], []
        if self._handle is not None:
            return
        self._folder.mkdir(exist_ok=True)
        self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            lock(self._handle, self.path)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise Unreachable(f"output {self.path} is not writable; give a folder that is")
        except BaseException:
            self.close()
            raise

    def _refuse(self, there: list[str], overwrite: bool) -> None:
        if not overwrite:
            self.close()
            raise OutputChanged(
                f"output {self.path} holds {len(there)} files already ({min(there)}), expected "
                "none; use another folder, append = true, or --overwrite to replace its parts"
            )

    def _matching(self, *patterns: re.Pattern[str]) -> list[str]:
        names = os.listdir(self._folder)
        return [name for name in names if any(p.fullmatch(name) for p in patterns)]

    def _delete(self, names: list[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def _extent(self) -> Json:
        extent = {"base": self._base, "parts": [list(part) for part in self._pending]}
        return {**extent, "overwritten": self._overwritten} if self._overwritten else extent

    def _set_aside(self, path: Path, number: int, size: int) -> _Pending:
        """Name a closed part after its checkpoint; a second one of the same gets a suffix."""
        for again in count():
            label = f"{self._base + number:08d}" + (f".{again}" if again else "")
            temporary = self._folder / f".part-{label}-{self._incarnation}.tmp"
            final = self._folder / f"part-{label}.parquet"
            if not temporary.exists() and not final.exists():
                break
        path.rename(temporary)
        return _Pending(number, temporary.name, final.name, size)

    def _check(self, part: _Pending, number: int) -> None:
        """A part listed in a checkpoint is there, under the one name or the other."""
        sizes = [
            path.stat().st_size
            for path in (self._folder / part.temporary, self._folder / part.final)
            if path.exists()
        ]
        if part.size not in sizes:
            raise self._changed(
                f"lacks part {part.final} of {part.size} bytes, which checkpoint {number} lists"
            )

    def _changed(self, what: str) -> OutputChanged:
        self.close()
        return OutputChanged(
            f"output {self.path} {what}; put it back as it was, or start anew with --fresh"
        )

    def _rename_pending(self, number: int) -> bool:
        due = [part for part in self._pending if part.number <= number]
        for part in due:
            with suppress(FileNotFoundError):  # renamed before a crash
                os.rename(self._folder / part.temporary, self._folder / part.final)
        self._pending = [part for part in self._pending if part.number > number]
        return bool(due)

    def _give_up(self, error: BaseException) -> SinkFailed:
        """After a failure the open part is lost, its rows are read again on resume."""
        self._broken = True
        if self._open is not None:
            self._open.discard()
            self._open = None
        return failed(self.path, error)


@final
class _Part:
    """The part being written."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._file = open(path, "wb", buffering=1 << 20)  # noqa: SIM115 - closed by finish, discard
        self._writer = pq.ParquetWriter(self._file, schema)
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0  # that wait

    def add(self, rows: pa.RecordBatch) -> None:
        self._waiting.append(rows)
        self._rows, self._bytes = self._rows + rows.num_rows, self._bytes + rows.nbytes
        if self._rows >= ROW_GROUP or self._bytes >= GROUP_BYTES:
            self._write_group()

    def finish(self) -> int:
        """Footer, fsync; returns the size in bytes."""
        self._write_group()
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        size = os.fstat(self._file.fileno()).st_size
        self._file.close()
        return size

    def discard(self) -> None:
        """Remove the part. The writer is told that it is closed, or it would write its footer."""
        self._writer.is_open = False
        with suppress(OSError):
            self.path.unlink()
        with suppress(OSError):
            self._file.close()

    def _write_group(self) -> None:
        rows, self._waiting, self._rows, self._bytes = self._waiting, [], 0, 0
        if rows:
            self._writer.write_table(pa.Table.from_batches(rows))


def _number(name: str) -> int:
    found = _PART.fullmatch(name) or _WAITING.fullmatch(name)
    assert found is not None
    return int(found[1])
