"""Where everything stands that single rows change: one array of numbers and one of counts.

A call of machine code costs some tenth of a microsecond for each array it is handed, as
much as a small model's whole update. So a learner's state lies in two arrays: `counts`
(int64) begins with sizes and the places of the blocks, `numbers` (float64) with scalars,
and then come the blocks. A block is a matrix in C order, looked at through `block`.
"""

from collections.abc import Callable
from typing import Any, cast

from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from stream_em.arrays import Array
from stream_em.kernels.machine import TILE

LOOK, FILL = cast(Any, make_array), cast(Any, populate_array)  # numba's own have no types

# counts: sizes and choices
K, D, PADDED, GROUPS, CELLS, FORM, POLICY, AVERAGES, ASIDE, CAPACITY, EVERY = range(11)
SHARED, BACKGROUND = range(11, 13)
# counts: what single rows change
LEARNED, TOTAL, FINAL, WAITING, ABSORBED = range(13, 18)
PLACES = 18  # where the places of the blocks begin

# the policies of forgetting
KEEP_ALL, POWER_WINDOW, HALF_LIFE = range(3)
# which rows are set aside: none, far ones, or copies of those the background claims
NONE, FAR, CLAIMED = range(3)
# the forms of covariance
HARD, FIXED, SPHERICAL, DIAGONAL, FULL, TIED = range(6)

# scalars of the policy and the settings
SMALLEST, ALPHA, EVENTS, BASE, POWER, MEMORY, BAR, CLIP = range(8)
LEAST_SHARE, N0, A0, SHRINK, REFRESH, DIGITS = range(8, 14)
# scalars that single rows change
WINDOW, CLOCK, SINCE, TYPICAL, TYPICAL_WEIGHT = range(15, 20)
ALL_STEP, ALL_OBJECTIVE, ALL_SQUARES, CLAIM_STEP, CLAIM_OBJECTIVE = range(20, 25)
# scalars that a call leaves for its caller
DISTANCE, LOG_LIKELIHOOD, CLAIMED_SHARE = range(25, 28)
SCALARS = 32

# blocks of the state
STEP, OBJECTIVE, SQUARES, MEAN, SCATTER, ALL_MEAN, ALL_SCATTER, LOW, HIGH = range(9)
AVERAGE_STEP, AVERAGE_OBJECTIVE, AVERAGE_SQUARES, AVERAGE_MEAN, AVERAGE_SCATTER = range(9, 14)
WEIGHTS, COVARIANCES, PRECISIONS, LOG_DETS, ARRIVED = range(14, 19)
ASIDE_ROWS, ASIDE_WEIGHTS, ASIDE_SCORES = range(19, 22)
# blocks that do not change, and room to work in
ORIGIN, UNIT, OFFSET, Z, JOINT, POSTERIOR, ROW_MEAN, ROW_SCATTER, DELTA = range(22, 31)
WIDTHS, LOG_WIDTHS, PRIOR, READ_MEAN, READ_WEIGHT, MOVED, PAIR, POOLED = range(31, 39)
SCALED, LEANING = range(39, 41)
BLOCKS = 41
ARRIVALS = PLACES + BLOCKS  # counts: when each row aside arrived, as many as there is room for


def shapes(K: int, D: int, form: int, capacity: int) -> tuple[tuple[int, int], ...]:
    """The shapes of all blocks, in their order."""
    matrices = form in (FULL, TIED)
    groups, cells = (1 if form == TIED else K), (D * D if matrices else D)
    padded = (D + TILE - 1) // TILE * TILE if matrices else D
    of_form = {
        HARD: ((0, 1), (0, 1)),
        FIXED: ((K, 1), (K, D)),
        SPHERICAL: ((K, 1), (K, D)),
        DIAGONAL: ((K, D), (K, D)),
        FULL: ((K, cells), (K, padded * padded)),
        TIED: ((1, cells), (1, padded * padded)),
    }
    each, features, room = (K, 1), (1, D), capacity + 1
    tally = (each, each, each, (K, D), (groups, cells))
    return (
        *(*tally, features, features, features, features),
        *(*tally, each, *of_form[form], each, each),
        *((room, D), (room, 1), (room, 1)),
        *(features, features, features, features, each, each, features, (1, cells), features),
        *(features, features, features, (K, D), each, (padded, 1), (3, 1), (1, cells)),
        *(features, features),
    )


def _block(typing: Any, numbers: Any, counts: Any, which: Any, rows: Any, columns: Any) -> Any:
    """A block as a (rows, columns) matrix, to be read and written; sizes are trusted."""
    view = types.Array(types.float64, 2, "C")

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _built(context, builder, signature, arguments)

    return view(numbers, counts, types.int64, types.int64, types.int64), build


def _stack(
    typing: Any, numbers: Any, counts: Any, which: Any, n: Any, rows: Any, columns: Any
) -> Any:
    """A block as n matrices (n, rows, columns), to be read and written; sizes are trusted."""
    view = types.Array(types.float64, 3, "C")

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _built(context, builder, signature, arguments)

    return view(numbers, counts, types.int64, types.int64, types.int64, types.int64), build


def _built(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """The view: where the table of counts says that the block begins, in C order."""
    size = context.get_constant(types.intp, 8)
    source = LOOK(signature.args[0])(context, builder, arguments[0])
    table = LOOK(signature.args[1])(context, builder, arguments[1])
    entry = builder.add(arguments[2], context.get_constant(types.intp, PLACES))
    place = builder.load(builder.gep(table.data, [entry]))
    shape, strides = list(arguments[3:]), [size]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(extent, strides[0]))
    made = LOOK(signature.return_type)(context, builder)
    FILL(
        made,
        data=builder.gep(source.data, [place]),
        shape=shape,
        strides=strides,
        itemsize=size,
        meminfo=None,
        parent=None,
    )
    return made._getvalue()


# What numba makes of an intrinsic has a type of its own; callers see a function of numbers,
# counts, the block's index and its sizes.
block: Callable[[Array, Array, int, int, int], Array] = cast(Any, intrinsic(_block))
stack: Callable[[Array, Array, int, int, int, int], Array] = cast(Any, intrinsic(_stack))
