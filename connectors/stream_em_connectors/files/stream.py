"""The stream of every file source: polls its feed and cuts exact batches."""

import time
from typing import final

from stream_em.errors import StreamEmError
from stream_em.streams import Batch, Progress, Stream
from stream_em_connectors.codecs import Fields
from stream_em_connectors.codecs.table import blank, settled
from stream_em_connectors.files.chunks import Pending
from stream_em_connectors.files.feeds import Feed


@final
class FileStream(Stream):
    """Batches of exactly `batch_size` accepted rows, the last one excepted.

    With `patience`, in seconds, a smaller one is handed out when its first record has
    waited so long. A failure of the input is raised when all before it is handed out.
    """

    def __init__(self, feed: Feed, fields: Fields, batch_size: int, patience: float | None) -> None:
        self.features = fields.features
        self.positions = feed.positions
        self._feed, self._size, self._patience = feed, batch_size, patience
        self._pending = Pending(settled(blank(0, fields), {}))
        self._failure: StreamEmError | None = None
        self._since = 0.0  # when the first pending record came
        self._closed = False

    def poll(self, seconds: float) -> Batch | None:
        """The next batch. Raises `SourceFailed` or `SourceChanged` when the input breaks off."""
        deadline = time.monotonic() + seconds
        while not self._pending.full(self._size) and not self._over and not self._waited:
            if not self._advance():
                left = min(deadline, self._due) - time.monotonic()
                if left > 0:
                    self._feed.wait(left)
            if time.monotonic() >= deadline:
                break
        batch = self._cut()
        if batch is None and self._failure is not None and not self._closed:
            raise self._failure
        return batch

    def _cut(self) -> Batch | None:
        full = self._pending.full(self._size)
        if self._pending.empty or not (full or self._over or self._waited):
            return None
        batch = self._pending.cut(self._size, timed=not full and not self._over)
        self._since = time.monotonic()
        while not self._feed.waits and self._pending.empty and not self._over:
            self._advance()  # look ahead, so that the end is known with the last batch
        return batch

    def _advance(self) -> bool:
        """Fetch what comes next. False if nothing was there."""
        try:
            items = self._feed.take()
        except StreamEmError as error:
            self._failure = error
            return False
        for item in items:
            if self._pending.empty:
                self._since = time.monotonic()
            self._pending.put(item)
        return bool(items)

    @property
    def _over(self) -> bool:
        return self._closed or self._failure is not None or self._feed.exhausted

    @property
    def _due(self) -> float:
        """When pending records have waited long enough."""
        if self._patience is None or self._pending.empty:
            return float("inf")
        return self._since + self._patience

    @property
    def _waited(self) -> bool:
        return time.monotonic() >= self._due

    @property
    def ended(self) -> bool:
        """True once everything has been handed out, or the stream is closed."""
        finished = self._over and self._failure is None and self._pending.empty
        return self._closed or finished

    def limit(self, rows: int) -> None:
        """Hand out no batch larger than `rows` from now on."""
        self._size = min(self._size, rows)

    def progress(self) -> Progress:
        """Bytes read of the files, which may be a few MiB ahead of the batches."""
        return self._feed.progress()

    def close(self) -> None:
        """Close the open file and end."""
        self._closed = True
        self._feed.close()
