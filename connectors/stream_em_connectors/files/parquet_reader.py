"""One Parquet file, read row group by row group."""

from collections.abc import Iterator
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_em.errors import SourceFailed
from stream_em.streams import Json, Rejected
from stream_em_connectors.codecs import Fields
from stream_em_connectors.codecs.columns import as_json, decoded
from stream_em_connectors.files.chunks import Chunk
from stream_em_connectors.files.readers import Fate, Reader

ROWS = 1 << 16  # rows of a chunk
DAMAGED = (pa.ArrowException, OSError)


@final
class ParquetReader(Reader):
    """Rows of an open file from one of its row numbers on."""

    def __init__(
        self, source: str, parquet: pq.ParquetFile, identity: Json, fields: Fields, first: int
    ) -> None:
        self.source = source
        self._parquet, self._fields = parquet, fields
        meta = parquet.metadata
        counts = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        self._bounds = np.cumsum([0, *counts])  # first row of each group, and the end
        self._total = int(self._bounds[-1])
        self._row = first
        self._identity = identity
        self._batches = self._read(first)

    def _read(self, first: int) -> Iterator[pa.RecordBatch]:
        group = int(np.searchsorted(self._bounds, first, side="right")) - 1
        groups = list(range(group, len(self._bounds) - 1))
        skip = first - int(self._bounds[group])
        names = list(self._fields.names)
        for batch in self._parquet.iter_batches(ROWS, row_groups=groups, columns=names):
            if skip < batch.num_rows:
                yield batch.slice(skip)
            skip = max(0, skip - batch.num_rows)

    def next_chunk(self) -> Chunk | None:
        """The next rows of the file. Raises `SourceFailed` where it is damaged."""
        try:
            batch = next(self._batches, None)
        except DAMAGED as error:
            raise SourceFailed(
                f"{self.source} cannot be read beyond row {self._row}: {error}; "
                "rows up to there have been handed out, repair or replace the file"
            ) from error
        return None if batch is None else self._chunk(batch)

    def skip_to_end(self) -> None:
        """Leave all rows out."""
        self._row, self._batches = self._total, iter(())

    def _chunk(self, batch: pa.RecordBatch) -> Chunk:
        found = decoded(batch, self._fields)
        first, self._row = self._row, self._row + batch.num_rows
        return Chunk(
            source=self.source,
            rows=found.rows,
            weights=found.weights,
            times=found.times,
            keys=found.keys,
            offsets=first + found.kept,
            afters=first + found.kept + 1,
            rejected=tuple(
                Rejected(self.source, 0, first + place, *flaw, as_json(batch, place))
                for place, flaw in found.flaws
            ),
            rejected_afters=[first + place + 1 for place, _ in found.flaws],
            begin=first,
            end=self._row,
            mark=self._at,
            unit=self._identity["size"] / max(self._total, 1),
        )

    def torn(self) -> Chunk | None:
        """Nothing: rows are whole."""
        return None

    def mark(self) -> Json:
        """The position behind the last row that was read."""
        return self._at(self._row)

    def _at(self, row: int) -> Json:
        group = int(np.searchsorted(self._bounds, row, side="right")) - 1
        inside = row - int(self._bounds[group])
        return {"row_group": group, "row": inside, "offset": row, **self._identity}

    @property
    def raw_offset(self) -> int:
        """The share of the file's bytes that the rows read so far stand for."""
        return round(self._identity["size"] * self._row / max(self._total, 1))

    @property
    def inode(self) -> tuple[int, int]:
        """Inode and modification time of the open file."""
        return self._identity["inode"], 0

    def fate(self) -> Fate:
        """A Parquet file is whole when it is opened, so its name does not matter."""
        return Fate.SAME

    def close(self) -> None:
        """Close the file."""
        self._parquet.close(force=True)
