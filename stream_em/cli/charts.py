"""Small pictures of a curve: bars in a terminal, and lines in an SVG file of its own."""

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

EIGHTHS = " ▏▎▍▌▋▊▉█"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 200, 90, 20, 34, 30  # of a panel, in px
COLOUR, MARKED = "#3465a4", "#c0392b"


class Panel(NamedTuple):
    """One curve of a chart."""

    title: str
    y: Sequence[float]
    logarithmic: bool = False  # the axis of y


def bar(share: float, width: int = 24) -> str:
    """A share of 0 to 1 as a bar of up to `width` characters.

    >>> bar(0.5, 4), bar(0.28, 4)
    ('██', '█▏')
    """
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return EIGHTHS[-1] * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def svg(title: str, x_title: str, x: Sequence[float], panels: Sequence[Panel], mark: float) -> str:
    """Curves over the same x, one panel below the other, with a line at x = `mark`."""
    height = 30 + len(panels) * HEIGHT + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        _text(LEFT, 20, title, "start", "bold"),
    ]
    for i, panel in enumerate(panels):
        parts += [f'<g transform="translate(0,{30 + i * HEIGHT})">']
        parts += [*_drawn(x, panel, mark), "</g>"]
    parts += [_text((LEFT + WIDTH - RIGHT) / 2, height - 8, x_title), "</svg>"]
    return "\n".join(parts) + "\n"


def _drawn(x: Sequence[float], panel: Panel, mark: float) -> list[str]:
    scale = _log if panel.logarithmic else float
    points = [(a, scale(b)) for a, b in zip(x, panel.y, strict=True) if math.isfinite(scale(b))]
    if not points:
        return [_text(LEFT, TOP - 10, f"{panel.title}: nothing finite to draw", "start")]
    across = _Axis(min(x), max(x), LEFT, WIDTH - RIGHT)
    ys = [b for _, b in points]
    up = _Axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    corners = [f"{across(a):.1f},{up(b):.1f}" for a, b in points]
    at = f"{across(mark):.1f}"
    return [
        _text(LEFT, TOP - 12, panel.title, "start"),
        *_horizontals(up, panel.logarithmic),
        *(_text(across(a), HEIGHT - BOTTOM + 16, f"{a:g}") for a in _ticks_among(x)),
        f'<line x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{MARKED}" '
        'stroke-dasharray="4 3"/>',
        f'<polyline points="{" ".join(corners)}" fill="none" stroke="{COLOUR}" stroke-width="2"/>',
        *(
            f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="{4 if a == mark else 2}" '
            f'fill="{MARKED if a == mark else COLOUR}"/>'
            for a, b in points
        ),
    ]


class _Axis(NamedTuple):
    """Values from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        wide = self.high - self.low
        share = (value - self.low) / wide if wide > 0 else 0.5
        return self.start + share * (self.end - self.start)


def _horizontals(up: _Axis, logarithmic: bool) -> list[str]:
    """Lines across the panel, each with its value."""
    drawn = []
    for step in range(4) if up.high > up.low else range(1):
        value = up.low + (up.high - up.low) * step / 3
        y = up(value)
        shown = math.exp(value) if logarithmic else value
        drawn.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" ')
        drawn[-1] += 'stroke="#ddd"/>'
        drawn.append(_text(LEFT - 8, y + 4, f"{shown:.5g}", "end"))
    return drawn


def _ticks_among(x: Sequence[float], most: int = 12) -> list[float]:
    """Some of the values of x, the first and the last among them."""
    ordered = sorted(x)
    step = max(1, math.ceil(len(ordered) / most))
    chosen = ordered[::step]
    if chosen[-1] != ordered[-1]:
        chosen = [*(chosen if len(chosen) == 1 else chosen[:-1]), ordered[-1]]
    return chosen


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


def _text(x: float, y: float, text: str, anchor: str = "middle", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
