"""`decode(encode(c)) == c`, bit for bit, for every value a checkpoint may hold."""

import json
import struct
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import stream_em as se
from stream_em.arrays import Array, identical, record
from stream_em.checkpoints import (
    ALIGNMENT,
    Checkpoint,
    decode,
    encode,
    load,
    pack,
    save,
    unpack,
    versions,
)
from stream_em.errors import CheckpointDamaged, Unreachable
from stream_em.streams import Base64, Origins, Positions


@record
class Leaf:
    """A record as the rooms above make them."""

    values: Array
    name: str
    limit: float = 1.5


class Pair(NamedTuple):
    """A named tuple as the rooms above make them."""

    first: Any
    second: Any = None


RECORDS = (Leaf, Pair)

numbers = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary().map(Base64.of)
)
arrays = st.sampled_from(["<f8", "<i8", "<i4", "|b1"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
leaves = numbers | arrays | st.builds(Leaf, arrays, st.text(), st.floats())
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner, max_size=4)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal in value, in type, in order and in every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Leaf):
        return all(same(getattr(a, f), getattr(b, f)) for f in ("values", "name", "limit"))
    if isinstance(a, float):
        return (a != a and b != b) or struct.pack("<d", a) == struct.pack("<d", b)
    return identical(a, b)


@settings(deadline=None)
@given(trees)
def test_decode_after_encode_is_the_identity(tree: Any) -> None:
    assert same(unpack(pack(tree, RECORDS), RECORDS, "it"), tree)


@settings(deadline=None, max_examples=30)
@given(trees)
def test_equal_values_give_equal_bytes(tree: Any) -> None:
    again = unpack(pack(tree, RECORDS), RECORDS, "it")
    assert pack(again, RECORDS) == pack(tree, RECORDS)


def test_arrays_of_any_layout() -> None:
    grid = np.arange(12.0).reshape(3, 4)
    for array in (grid.T, grid[::2, ::-1], grid.astype(">f8"), np.array(2.0)):
        found = unpack(pack(array, ()), (), "it")
        np.testing.assert_array_equal(found, array)
        assert found.flags.c_contiguous
        assert found.dtype == np.dtype("<f8")


def test_scalars_of_numpy_become_plain() -> None:
    found = unpack(pack((np.float64(0.1), np.int64(3), np.bool_(True)), ()), (), "it")
    assert same(found, (0.1, 3, True))


@pytest.mark.parametrize("value", [b"raw", {1}, 1j, object(), np.array(["a"]), np.zeros(1, ">f4")])
def test_what_has_no_place_is_refused_when_written(value: Any) -> None:
    with pytest.raises(TypeError, match=r"tree\.1"):
        pack((0, value), ())


def test_the_layout_is_the_documented_one() -> None:
    data = pack({"a": np.arange(3), "b": np.arange(2.0)}, ())
    magic, version, length = struct.unpack_from("<8sIQ", data)
    assert (magic, version) == (b"STREAMEM", 1)
    directory = json.loads(data[20 : 20 + length])["arrays"]
    base = -(-(20 + length) // ALIGNMENT) * ALIGNMENT
    assert [(entry["dtype"], entry["shape"]) for entry in directory] == [("<i8", [3]), ("<f8", [2])]
    for entry, expected in zip(directory, (np.arange(3), np.arange(2.0)), strict=True):
        start = base + entry["offset"]
        assert start % ALIGNMENT == 0
        assert data[start : start + expected.nbytes] == expected.tobytes()


# --- other versions


class Old:
    """The same record as an older version wrote it."""

    @record
    class Leaf:
        values: Array
        name: str


class New:
    """The same record as a newer version may write it."""

    @record
    class Leaf:
        values: Array
        name: str
        limit: float
        colour: str


def test_a_field_missing_in_an_older_file_takes_its_default() -> None:
    data = pack(Old.Leaf(np.zeros(1), "a"), (Old.Leaf,))
    assert same(unpack(data, RECORDS, "it"), Leaf(np.zeros(1), "a", 1.5))


def test_fields_and_records_of_a_newer_version_are_refused() -> None:
    newer = pack(New.Leaf(np.zeros(1), "a", 2.0, "red"), (New.Leaf,))
    with pytest.raises(CheckpointDamaged, match=r"it .*'colour', written by a newer version"):
        unpack(newer, RECORDS, "it")
    with pytest.raises(CheckpointDamaged, match=r"'Pair', written by a newer version"):
        unpack(pack(Pair(1), (Pair,)), (), "it")
    lacking = pack(Old.Leaf(np.zeros(1), "a"), (Old.Leaf,))
    with pytest.raises(CheckpointDamaged, match="colour"):
        unpack(lacking, (New.Leaf,), "it")


def test_another_format_is_named() -> None:
    data = bytearray(pack(1, ()))
    data[8] = 2
    with pytest.raises(CheckpointDamaged, match="format 2, this version reads format 1"):
        unpack(bytes(data), (), "it")
    with pytest.raises(CheckpointDamaged, match="no checkpoint"):
        unpack(b"offset,temperature\n" * 10, (), "it")


# --- real models and states

MODELS = (
    se.KMeans(n_clusters=3),
    se.SoftKMeans(n_clusters=3, beta=0.5),
    se.GaussianMixture(n_components=3),
    se.GaussianMixture(n_components=3, covariance=se.Diagonal(), forgetting=se.HalfLife(500)),
    se.GaussianMixture(n_components=3, covariance=se.Spherical(), prior=None),
    se.GaussianMixture(n_components=3, covariance=se.Tied(), scaling=se.Standardise()),
    se.GaussianMixture(
        n_components=2,
        covariance=se.Isotropic(0.1),
        forgetting=se.EventTimeHalfLife(60.0),
        initial_means=[[0.1, 0.2], [5.0, 5.0]],
    ),
)


def rows(seed: int, n: int) -> Array:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((n, 2)) + 5 * draw.integers(0, 3, (n, 1))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_every_state_of_a_run_survives(model: Any) -> None:
    state = se.init(model, seed=7)
    for place, n in enumerate((1, 0, 400, 3000, 1, 500)):
        checkpoint = Checkpoint(place, "cafe", model, state, versions=versions())
        found = decode(encode(checkpoint))
        assert found == checkpoint
        assert found.model == model
        times = place + np.linspace(0, 1, n)
        state, info = se.step(model, state, rows(place, n), times=times)
        again, same_info = se.step(found.model, found.state, rows(place, n), times=times)
        assert again == state
        assert same_info == info


def test_everything_beside_the_state_survives() -> None:
    model = se.KMeans(n_clusters=2)
    numbers = np.arange(3, dtype=np.int32)
    checkpoint = Checkpoint(
        number=12,
        incarnation="cafe",
        model=model,
        state=replace(se.init(model, seed=1), features=("a", "b")),
        positions=Positions({"ä.csv": {"offset": 2**60, "digest": None, "of": [1, 2.5]}}),
        pending=Origins(
            ("ä.csv",), numbers, numbers, np.arange(3), ("k", None, [1]), np.array([1.0, np.nan, 2])
        ),
        extents={"out.jsonl": {"length": 3, "digest": "ab"}, "stdout": None},
        settings={"source": {"kind": "csv", "delimiter": ";"}},
        rejected=4,
        versions=versions(),
    )
    assert decode(encode(checkpoint)) == checkpoint


def test_save_and_load(tmp_path: Path) -> None:
    model = se.GaussianMixture(n_components=2)
    state, _ = se.step(model, se.init(model, seed=3), rows(0, 100))
    path = tmp_path / "model.ckpt"
    save(path, model, se.init(model))
    save(str(path), model, state)
    assert load(path) == (model, state)
    assert [name.name for name in tmp_path.iterdir()] == ["model.ckpt"]
    with pytest.raises(FrozenInstanceError):
        load(path)[1].seed = 4  # type: ignore[misc]
    assert not load(path)[1].held.rows.flags.writeable  # type: ignore[union-attr]


def test_places_where_nothing_can_be_saved_or_loaded(tmp_path: Path) -> None:
    model = se.KMeans(n_clusters=2)
    with pytest.raises(Unreachable, match="existing, writable folder"):
        save(tmp_path / "missing" / "x", model, se.init(model))
    with pytest.raises(Unreachable, match="No such file"):
        load(tmp_path / "missing")
    (tmp_path / "text").write_text("hello, this is no checkpoint")
    with pytest.raises(CheckpointDamaged, match="text begins with"):
        load(tmp_path / "text")
    with pytest.raises(CheckpointDamaged, match="expected a checkpoint"):
        decode(pack(1, ()))
