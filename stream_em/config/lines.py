"""On which line of a TOML text each key stands: for provenance and error messages."""

import re

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLES = re.compile(rf"\s*\[\[\s*({_DOTTED})\s*\]\]")
_TABLE = re.compile(rf"\s*\[\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")

Path = tuple[str, ...]


def key_lines(text: str) -> dict[Path, int]:
    """Path of each table and key -> its line, counted from 1.

    Keys inside an inline table are not listed; the line of that table serves them.

    >>> key_lines('[model]\\nn_components = 8\\n[[sinks]]\\nkind = "jsonl"')[("sinks", "0", "kind")]
    4
    """
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _TABLES.match(line):
            name = _steps(found.group(1))
            place = counts.get(name, -1) + 1
            counts[name] = place
            table = (*name, str(place))
            lines.setdefault(table, number)
        elif found := _TABLE.match(line):
            table = _steps(found.group(1))
            lines.setdefault(table, number)
        elif found := _KEY.match(line):
            lines.setdefault(table + _steps(found.group(1)), number)
    return lines


def _steps(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))
