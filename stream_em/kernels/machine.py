"""How a loop becomes machine code, and the memory layouts it works on.

Rows are worked on in panels (D, LANES), transposed so that one instruction serves
one feature of several rows.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from stream_em.arrays import Array

F = TypeVar("F", bound=Callable[..., Any])

LANES = 64  # rows of a panel: long enough to amortise a loop, short enough for the first cache
TILE = 4  # features multiplied with two others at a time


def machine_code(*liberties: str) -> Callable[[F], F]:
    """Compile a loop when it is first called, and keep the result on disk where that is possible.

    The loop runs without the GIL and obeys IEEE 754 except for the named liberties
    of LLVM: "contract" (fused multiply-add), "reassoc" (sums in another order). The
    copy on disk is renewed when the loop's own file changes; whoever edits `load`
    here must delete the copies of its callers in `__pycache__`.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(liberties)}

    def compiled(function: F) -> F:
        try:
            loop: F = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no folder for the cache can be written: compile in every process
            loop = numba.njit(**options)(function)
        return loop

    return compiled


def ready(values: Array, dtype: type = np.float64) -> Array:
    """A read-only, aligned view in C order: one layout for all callers, so one compilation.

    >>> ready(np.eye(2)[:, ::-1]).flags.c_contiguous
    True
    """
    view: Array = np.ascontiguousarray(values, dtype=dtype).view()
    if not view.flags.aligned:
        view = view.copy()
    view.flags.writeable = False
    return view


def _kept_whole(typing: Any) -> Any:
    """Keep the function that calls this out of its callers, wherever it is called from.

    A compiler that may fuse multiplications with additions chooses where by what stands
    around them. Kept whole, a loop gives all its callers the same bits.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), build


kept_whole: Callable[[], None] = cast(Any, intrinsic(_kept_whole))


@machine_code()
def load(Z: Array, start: int, panel: Array, width: int) -> None:
    """Transpose `width` rows of Z (n, D) from `start` into panel (D, lanes)."""
    for b in range(width):
        for d in range(Z.shape[1]):
            panel[d, b] = Z[start + b, d]
