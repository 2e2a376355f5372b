"""The compiled kernels take any array that holds the rows, and answer with the same bits."""

import subprocess
import sys

import numpy as np
import pytest

from stream_em.arrays import Array
from stream_em.kernels import compiled, expectations, tallies
from stream_em.kernels.machine import ready

E_STEP = ("nearest", "log_density_full", "log_density_diagonal", "posterior")
TALLIES = ("hard_tally", "soft_tally_diagonal", "soft_tally_full")
NAMES = (*E_STEP, *TALLIES, "soft_tally_pooled")
LOOPS = (
    *(getattr(expectations, name) for name in E_STEP),
    *(getattr(tallies, name) for name in TALLIES),
)


def arguments_of(name: str, n: int = 67, D: int = 7, K: int = 5) -> tuple[Array, ...]:
    """New arrays of the right shapes for the kernel of this name."""
    rng = np.random.default_rng(7)
    Z, means = 1e4 + rng.normal(size=(n, D)), 1e4 + rng.normal(size=(K, D))
    weights, scales = rng.uniform(size=n), rng.uniform(0.5, 2.0, size=(K, D))
    return {
        "nearest": (Z, means),
        "log_density_full": (Z, means, np.triu(rng.normal(size=(K, D, D))), rng.normal(size=K)),
        "log_density_diagonal": (Z, means, scales, rng.normal(size=K)),
        "posterior": (rng.normal(size=(n, K)),),
        "hard_tally": (Z, weights, rng.integers(K, size=n), means),
    }.get(name, (Z, weights, rng.dirichlet(np.ones(K), size=n), means))


def bits(name: str, arguments: tuple[Array, ...]) -> list[bytes]:
    out = getattr(compiled, name)(*arguments)
    return [a.tobytes() for a in (out if isinstance(out, tuple) else (out,))]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_call_gives_the_same_bits(name: str) -> None:
    arguments = arguments_of(name, n=150)
    assert len({tuple(bits(name, arguments)) for _ in range(3)}) == 1


def moved_by(values: Array, offset: int) -> Array:
    """The same values, `offset` bytes after a boundary of 64 bytes."""
    room = np.zeros(values.nbytes + 128, np.uint8)
    start = -room.ctypes.data % 64 + offset
    view = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


@pytest.mark.parametrize("name", NAMES)
def test_the_place_in_memory_does_not_matter(name: str) -> None:
    arguments = arguments_of(name)
    wanted = bits(name, arguments)
    for offset in (0, 8, 16, 24, 1):
        assert bits(name, tuple(moved_by(a, offset) for a in arguments)) == wanted
    assert bits(name, tuple(np.asfortranarray(a) for a in arguments)) == wanted
    assert bits(name, tuple(np.repeat(a, 2, axis=0)[::2] for a in arguments)) == wanted


@pytest.mark.parametrize("name", E_STEP)
def test_a_row_alone_gets_what_it_gets_in_company(name: str) -> None:
    rows, *rest = arguments_of(name, n=150)
    together = getattr(compiled, name)(rows, *rest)
    for i in range(0, len(rows), 11):
        alone = getattr(compiled, name)(rows[i : i + 1], *rest)
        pairs = (
            zip(together, alone, strict=True) if isinstance(alone, tuple) else [(together, alone)]
        )
        for whole, one in pairs:
            assert whole[i : i + 1].tobytes() == one.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_inputs_may_be_read_only_and_are_never_changed(name: str) -> None:
    arguments = arguments_of(name)
    before = [a.tobytes() for a in arguments]
    wanted = bits(name, arguments)
    assert [a.tobytes() for a in arguments] == before
    assert all(a.flags.writeable for a in arguments)
    for a in arguments:
        a.flags.writeable = False
    assert bits(name, arguments) == wanted


def test_after_the_warm_up_nothing_is_compiled_for_any_kind_of_array() -> None:
    compiled.warm_up()
    for name in NAMES:
        arguments = arguments_of(name)
        getattr(compiled, name)(*arguments)
        getattr(compiled, name)(*(np.asfortranarray(a) for a in arguments))
        getattr(compiled, name)(*(moved_by(a, 1) for a in arguments))
        for a in arguments:
            a.flags.writeable = False
        getattr(compiled, name)(*arguments)
    for loop in LOOPS:
        assert len(loop.signatures) == 1, loop


def test_loops_are_given_aligned_rows_they_cannot_write() -> None:
    for offset in (0, 1, 4):
        view = ready(moved_by(np.ones((3, 2)), offset))
        assert view.flags.aligned
        assert view.flags.c_contiguous
        assert not view.flags.writeable


WITHOUT_CACHE = """
from numba.core import caching
caching.CacheImpl._locator_classes = []
from numpy import zeros
from stream_em.kernels import compiled
print(compiled.posterior(zeros((1, 2)))[0])
"""


def test_without_any_folder_to_cache_in_it_compiles_all_the_same() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_CACHE], capture_output=True, text=True, timeout=120
    )
    assert ran.stdout.strip() == "[[0.5 0.5]]", ran.stderr
