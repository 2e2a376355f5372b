"""Plain tables for people: the clusters of a checkpoint."""

import reprlib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from stream_em.arrays import Array
from stream_em.background import background_share
from stream_em.state import State

SHOWN = 6  # features of a mean that fit on a line


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns set flush right under their header.

    >>> print(aligned(["slot", "weight"], [["0", "0.25"], ["1", "0.75"]]))
    slot  weight
       0    0.25
       1    0.75
    """
    table = [header, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def cluster_table(found: Any, features: Sequence[str] | None) -> str:
    """The clusters, heaviest first: slot, uid, weight, count, mean."""
    if not len(found.slots):
        return "no clusters yet"
    D = found.means.shape[1]
    names = [str(i) for i in range(D)] if features is None else list(features)
    header = ["slot", "uid", "weight", "count", *names[:SHOWN], *(["..."] * (D > SHOWN))]
    heaviest = sorted(range(len(found.slots)), key=lambda k: -float(found.weights[k]))
    rows = [
        [
            str(int(found.slots[k])),
            str(int(found.uids[k])),
            f"{found.weights[k]:.4f}",
            f"{found.counts[k]:,.0f}",
            *_mean(found.means[k]),
        ]
        for k in heaviest
    ]
    return aligned(header, rows)


class Beside(NamedTuple):
    """What a model holds beside its clusters."""

    rows_set_aside: int | None  # waiting for a cluster; None without restructuring
    background_share: float | None  # None without a background
    slots_free: int  # of the clusters asked for
    averaged: bool  # whether averaged statistics are kept as a second model

    def in_words(self) -> str:
        """For people, in one line.

        >>> Beside(12, 0.05, 1, True).in_words()
        '12 rows set aside, background 5.00 %, 1 slot free, averaged statistics kept'
        """
        words = [] if self.rows_set_aside is None else [f"{self.rows_set_aside:,} rows set aside"]
        if self.background_share is not None:
            words.append(f"background {self.background_share:.2%}".replace("%", " %"))
        words.append(f"{self.slots_free} slot{'s' * (self.slots_free != 1)} free")
        return ", ".join([*words, *(["averaged statistics kept"] * self.averaged)])


def set_aside(model: Any, state: State) -> Beside:
    """What a state holds beside its clusters."""
    aside, uniform, held = state.quarantine, state.background, state.moments
    share = None
    if model.background is not None and uniform is not None and held is not None:
        share = background_share(model.background, uniform, float(held.step.sum()))
    return Beside(
        rows_set_aside=None if aside is None else len(aside),
        background_share=share,
        slots_free=max(0, model.size - len(state.identity.slots)),
        averaged=state.averaged is not None,
    )


def _mean(mean: Array) -> list[str]:
    return [f"{value:.4g}" for value in mean[:SHOWN]] + [""] * (len(mean) > SHOWN)


def in_words(model: Any) -> str:
    """A model by its kind and whatever differs from its defaults.

    >>> from stream_em.models.gaussian import GaussianMixture
    >>> in_words(GaussianMixture(n_components=3))
    'gaussian-mixture: n_components=3'
    """
    values = {field.name: getattr(model, field.name) for field in fields(model) if field.init}
    plain = {field.name: field.default for field in fields(model)}
    told = [f"{name}={_word(v)}" for name, v in values.items() if v != plain[name]]
    return f"{model.kind}: {', '.join(told)}"


def _word(value: Any) -> str:
    if is_dataclass(value) and not any(field.init for field in fields(value)):
        return str(getattr(value, "kind", value))
    return reprlib.repr(value)
