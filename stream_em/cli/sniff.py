"""A first look at a data file: its format, its columns, what they may be good for."""

import csv
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from stream_em.errors import SettingsError, Unreachable

GZIP, ZSTANDARD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
SAMPLE = 1 << 18  # bytes looked at
LINES = 1000  # lines looked at, at most
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?")
LABELS = frozenset({"label", "labels", "class", "target", "anomaly", "y", "cluster"})
TIMES = frozenset({"at", "time", "timestamp", "ts", "datetime", "date", "event_time"})
EPOCH = 1e8  # seconds; smaller numbers are durations rather than dates
MILLISECONDS = 1e11  # larger numbers are dates in milliseconds, which no source takes


class Column(NamedTuple):
    """A column and what its values look like."""

    name: str
    use: str  # "feature", "time", "identifier", "label", "milliseconds" or "text"


class Sniffed(NamedTuple):
    """What a file seems to be: a kind of source, its settings, its columns."""

    kind: str
    settings: dict[str, Any]
    columns: tuple[Column, ...]

    def named(self, use: str) -> list[str]:
        """Names of the columns of one use, in order."""
        return [column.name for column in self.columns if column.use == use]


def sniff(path: Path) -> Sniffed:
    """Look at the beginning of a file.

    Raises `Unreachable` when it cannot be read, `SettingsError` when nothing can be
    made of it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head == PARQUET:
            return _parquet(path)
        sample = _sample(path, head)
    except (OSError, EOFError) as error:
        raise Unreachable(f"{path} cannot be read ({error}); give a data file") from None
    if b"\0" in sample or sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SettingsError(
            f"{path} is no text that extends ASCII; convert it to CSV or JSON lines in UTF-8"
        )
    text, encoding = _decoded(sample)
    lines = [line for line in text.splitlines() if line.strip()][:LINES]
    if not lines:
        raise SettingsError(f"{path} is empty; give a file with at least one row")
    found = _jsonl(lines) if lines[0].lstrip().startswith("{") else _csv(lines)
    return found._replace(settings={**found.settings, **encoding})


def _sample(path: Path, head: bytes) -> bytes:
    """The first bytes, decompressed, up to the end of a line."""
    if head == ZSTANDARD:
        import pyarrow as pa

        with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
            sample = bytes(stream.read(SAMPLE))
    else:
        open_binary = gzip.open if head.startswith(GZIP) else open
        with open_binary(path, "rb") as file:
            sample = file.read(SAMPLE)
    return sample[: sample.rindex(b"\n")] if len(sample) == SAMPLE and b"\n" in sample else sample


def _decoded(sample: bytes) -> tuple[str, dict[str, str]]:
    try:
        return sample.decode("utf-8-sig"), {}
    except UnicodeDecodeError:
        return sample.decode("latin-1"), {"encoding": "latin-1"}


def _csv(lines: Sequence[str]) -> Sniffed:
    delimiter = _delimiter(lines)
    rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    first, cells = rows[0], [cell.strip() for row in rows[1:] for cell in row]
    header = not any(_is_number(cell) for cell in first) and len(set(first)) == len(first)
    settings: dict[str, Any] = {} if delimiter == "," else {"delimiter": delimiter}
    commas = any(re.fullmatch(r"[-+]?\d+,\d+", cell) for cell in cells)
    if commas and not any(re.fullmatch(r"[-+]?\d+\.\d+", cell) for cell in cells):
        settings["decimal"] = ","
    if not header:
        settings["header"] = False
    names = [cell.strip() for cell in first] if header else [str(i) for i in range(len(first))]
    body = rows[1:] if header else rows
    values = {name: [r[i] for r in body if i < len(r)] for i, name in enumerate(names)}
    return Sniffed("csv", settings, _columns(values))


def _delimiter(lines: Sequence[str]) -> str:
    """The separator that cuts most lines into the same number of cells, two or more."""

    def agreement(mark: str) -> int:
        widths = [len(row) for row in csv.reader(lines, delimiter=mark)]
        return widths.count(widths[0]) if widths[0] > 1 else 0

    return max("\t;|,", key=agreement) if any(map(agreement, "\t;|,")) else ","


def _jsonl(lines: Iterable[str]) -> Sniffed:
    values: dict[str, list[Any]] = {}
    for line in lines:
        try:
            item = json.loads(line)
        except ValueError:
            continue
        for name, value in _flat(item, ""):
            values.setdefault(name, []).append(value)
    if not values:
        raise SettingsError("no line holds a JSON object; expected one object a line")
    return Sniffed("jsonl", {}, _columns(values))


def _flat(item: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in item.items() if isinstance(item, dict) else ():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _parquet(path: Path) -> Sniffed:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        batch = next(file.iter_batches(batch_size=LINES), None)
    except pa.ArrowInvalid as error:
        raise Unreachable(f"{path} is a damaged Parquet file ({error})") from None
    values = {} if batch is None else batch.to_pydict()
    return Sniffed("parquet", {}, _columns(values))


def _columns(values: dict[str, list[Any]]) -> tuple[Column, ...]:
    columns = [Column(name, _use(name, items)) for name, items in values.items()]
    first = next((c.name for c in columns if c.use == "time"), None)
    return tuple(
        c._replace(use="text") if c.use == "time" and c.name != first else c for c in columns
    )


def _use(name: str, items: Sequence[Any]) -> str:
    """What a column is good for, judged by its name and its present values."""
    present = [i for i in items if i is not None and str(i).strip().lower() not in MISSING]
    word = name.lower().rpartition(".")[2]
    if not present:
        return "text"
    if sum(map(_is_number, present)) < 0.95 * len(present):
        return "time" if all(map(_is_date, present)) else "text"
    if word in TIMES and all(_is_number(i) and _number(i) > EPOCH for i in present):
        late = any(_number(item) > MILLISECONDS for item in present)
        return "milliseconds" if late else "time"
    if word == "id" or word.endswith("_id"):
        return "identifier"
    return "label" if word in LABELS else "feature"


def _is_number(item: Any) -> bool:
    if isinstance(item, str):
        return NUMBER.fullmatch(item.strip()) is not None
    return isinstance(item, (int, float)) and not isinstance(item, bool)


def _number(item: Any) -> float:
    return float(str(item).strip().replace(",", "."))


def _is_date(item: Any) -> bool:
    if isinstance(item, datetime):
        return True
    try:
        datetime.fromisoformat(str(item).strip())
    except ValueError:
        return False
    return True
