"""Checkpoints: all that must survive a crash, as one file. `decode(encode(c)) == c`.

The file, little endian throughout::

    8 bytes   b"STREAMEM"
    u32       version of this format
    u64       length of the header
    header    JSON with sorted keys: a tree of values, and a directory of its arrays
    arrays    each at a multiple of 64 bytes, C order
    32 bytes  SHA-256 of everything before

Nothing in it is ever executed: it is read without pickle, and only the classes listed
in `RECORDS` can come out of it. Floats keep every bit, tuples stay tuples.
"""

import hashlib
import json
import math
import os
import platform
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import Array
from stream_em.errors import CheckpointDamaged, SettingsError, Unreachable
from stream_em.forgetting import Window
from stream_em.models.kinds import construct, describe
from stream_em.models.protocol import Clusters, Model
from stream_em.moments import DiagonalScatter, FullScatter, Moments, PooledScatter
from stream_em.state import (
    Averaged,
    Change,
    Frame,
    Held,
    Identity,
    Quarantine,
    State,
    Typical,
    Uniform,
)
from stream_em.streams import Base64, Json, Origins, Positions

MAGIC = b"STREAMEM"
FORMAT = 1
ALIGNMENT = 64  # bytes
DTYPES = ("<f8", "<i8", "<i4", "|b1")
_PREFIX = struct.Struct("<8sIQ")
_DIGEST_SIZE = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoint:
    """State and positions saved together: the run as it stood between two batches."""

    number: int
    incarnation: str  # of the process that wrote it
    model: Model
    state: State
    positions: Positions = field(default_factory=Positions)
    pending: Origins | None = None  # where the held rows came from
    extents: Mapping[str, Json] = field(default_factory=dict)  # output name -> how far it reached
    settings: Mapping[str, Json] = field(default_factory=dict)  # to be compared on resume
    rejected: int = 0  # records since the model began
    versions: Mapping[str, str] = field(default_factory=dict)  # of what wrote it


RECORDS: tuple[type, ...] = (
    *(Checkpoint, Positions, Origins),
    *(State, Frame, Held, Identity, Change, Window, Clusters),
    *(Quarantine, Typical, Averaged, Uniform),
    *(Moments, FullScatter, DiagonalScatter, PooledScatter),
)


def versions() -> dict[str, str]:
    """What writes checkpoints here: this package, NumPy and Python."""
    package = version("stream-em")
    return {"stream_em": package, "numpy": np.__version__, "python": platform.python_version()}


def encode(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as bytes. Raises `TypeError` for a value the format has no place for."""
    return pack(replace(checkpoint, model=describe(checkpoint.model)), RECORDS)


def decode(data: bytes, name: str = "the checkpoint") -> Checkpoint:
    """The checkpoint in `data`; `name` is what errors call it.

    Raises `CheckpointDamaged` when anything at all is wrong with it.
    """
    found = unpack(data, RECORDS, name)
    if not isinstance(found, Checkpoint):
        raise _damaged(name, f"holds {type(found).__name__}, expected a checkpoint")
    try:
        return replace(found, model=construct("model", found.model))
    except SettingsError as error:
        raise _damaged(name, f"speaks of a model unknown here ({error})") from error


def save(path: str | os.PathLike[str], model: Model, state: State) -> None:
    """Save a model and its state to a file, atomically: the old file or the new, never a mix.

    Raises `Unreachable` when it cannot be written there.
    """
    data = encode(Checkpoint(0, "", model, state, versions=versions()))
    try:
        write_atomically(Path(path), data)
    except OSError as error:
        raise Unreachable(
            f"cannot save to {os.fspath(path)} ({error.strerror}); "
            "give a file in an existing, writable folder with room for it"
        ) from error


def load(path: str | os.PathLike[str]) -> tuple[Model, State]:
    """The model and state in a file written by `save` or by a run's checkpoints.

    Raises `Unreachable` when it cannot be read, `CheckpointDamaged` when it is not whole.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Unreachable(
            f"cannot read {os.fspath(path)} ({error.strerror}); give the path of a saved file"
        ) from error
    checkpoint = decode(data, os.fspath(path))
    return checkpoint.model, checkpoint.state


def write_atomically(path: Path, data: bytes) -> None:
    """Temporary file, fsync, rename, fsync of the folder. On failure the temporary file goes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- the codec: any tree of plain values, records and arrays <-> bytes


def pack(tree: Any, records: Iterable[type]) -> bytes:
    """A tree of None, numbers, text, tuples, lists, dicts, arrays and `records` as bytes.

    >>> unpack(pack({"at": (1, 2.5, None)}, ()), (), "example")
    {'at': (1, 2.5, None)}
    """
    arrays: dict[str, Array] = {}
    body = _plain(tree, "tree", frozenset(records), arrays)
    directory, offset = [], 0
    for name, array in arrays.items():
        entry = {"dtype": array.dtype.str, "shape": list(array.shape), "offset": offset}
        directory.append({"name": name, **entry})
        offset = _aligned(offset + array.nbytes)
    tables = {"arrays": directory, "tree": body}
    header = json.dumps(tables, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    head = _PREFIX.pack(MAGIC, FORMAT, len(header)) + header
    pieces: list[Any] = [head, _padding(len(head))]
    for array in arrays.values():
        pieces += [array.reshape(-1).view(np.uint8), _padding(array.nbytes)]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return b"".join([*pieces, digest.digest()])


def unpack(data: bytes, records: Iterable[type], name: str) -> Any:
    """The tree in `data`, checked from the outside in: magic, version, lengths, checksum, values.

    Raises `CheckpointDamaged` naming `name`.
    """
    header, base = _opened(data, name)
    try:
        content = json.loads(header)
        arrays = {e["name"]: _array(data, base, e) for e in content["arrays"]}
        classes = MappingProxyType({cls.__name__: cls for cls in records})
        return _Reader(classes, arrays).value(content["tree"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(name, f"cannot be understood ({error})") from error


def _opened(data: bytes, name: str) -> tuple[bytes, int]:
    """The header of a whole file and the offset where its arrays begin."""
    if not data:
        raise _damaged(name, "is empty, expected a checkpoint")
    if not data.startswith(MAGIC[: len(data)]):
        raise _damaged(name, f"begins with {data[:8]!r}, expected {MAGIC!r}: it is no checkpoint")
    if len(data) < _PREFIX.size + _DIGEST_SIZE:
        raise _damaged(name, f"has only {len(data)} bytes: it is torn")
    _, found, length = _PREFIX.unpack_from(data)
    if found != FORMAT:
        raise _damaged(name, f"has format {found}, this version reads format {FORMAT}")
    base = _aligned(_PREFIX.size + length)
    if base + _DIGEST_SIZE > len(data):
        raise _damaged(name, f"has {len(data)} bytes, its header alone needs {base}: it is torn")
    if hashlib.sha256(memoryview(data)[:-_DIGEST_SIZE]).digest() != data[-_DIGEST_SIZE:]:
        raise _damaged(name, "does not match its checksum: it is torn or altered")
    return data[_PREFIX.size : _PREFIX.size + length], base


def _array(data: bytes, base: int, entry: Mapping[str, Any]) -> Array:
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"array {entry['name']} is of unknown type {entry['dtype']}")
    shape = tuple(int(size) for size in entry["shape"])
    count = int(np.prod(shape, dtype=np.int64))
    flat = np.frombuffer(data, entry["dtype"], count, base + entry["offset"])
    return flat.reshape(shape).copy()


def _damaged(name: str, what: str) -> CheckpointDamaged:
    return CheckpointDamaged(f"{name} {what}; use an older one, or start anew with --fresh")


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _padding(length: int) -> bytes:
    return bytes(_aligned(length) - length)


def _plain(value: Any, path: str, records: frozenset[type], arrays: dict[str, Array]) -> Json:
    """A value as JSON; its arrays are set aside under the path where they stood."""

    def inner(part: Any, name: object) -> Json:
        return _plain(part, f"{path}.{name}", records, arrays)

    if type(value) is Base64:
        return {"base64": str(value)}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, np.generic):
        return inner(value.item(), "item")
    if type(value) in records:
        content = {name: inner(getattr(value, name), name) for name in _fields(type(value))}
        return {"record": type(value).__name__, "fields": content}
    if isinstance(value, Mapping):
        return {"dict": [inner([k, v], i) for i, (k, v) in enumerate(value.items())]}
    if type(value) in (list, tuple):
        items = [inner(item, i) for i, item in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    if isinstance(value, np.ndarray) and value.dtype.newbyteorder("<").str in DTYPES:
        arrays[path] = np.asarray(value, value.dtype.newbyteorder("<"), order="C")
        return {"array": path}
    what = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise TypeError(f"{path} is of type {what}, which checkpoints do not hold")


class _Reader(NamedTuple):
    """JSON back to values."""

    records: Mapping[str, type]
    arrays: Mapping[str, Array]

    def value(self, plain: Json) -> Any:
        if isinstance(plain, list):
            return [self.value(item) for item in plain]
        if not isinstance(plain, dict):
            return plain
        if "record" in plain:
            return self._record(plain["record"], plain["fields"])
        [(tag, content)] = plain.items()
        if tag == "tuple":
            return tuple(self.value(item) for item in content)
        if tag == "dict":
            return {self.value(k): self.value(v) for k, v in content}
        if tag == "array":
            return self.arrays[content]
        if tag == "float":
            return float(content)
        if tag == "base64":
            return Base64(content)
        raise ValueError(f"it holds a {tag!r}, written by a newer version")

    def _record(self, name: str, content: Mapping[str, Json]) -> Any:
        if name not in self.records:
            raise ValueError(f"it holds a record {name!r}, written by a newer version")
        known = _fields(self.records[name])
        if unknown := sorted(set(content) - set(known)):
            raise ValueError(f"{name} has a field {unknown[0]!r}, written by a newer version")
        return self.records[name](**{key: self.value(item) for key, item in content.items()})


def _fields(cls: Any) -> tuple[str, ...]:
    """Names of the fields that a record is made from."""
    if is_dataclass(cls):
        return tuple(f.name for f in fields(cls) if f.init)
    return tuple(cls._fields)
