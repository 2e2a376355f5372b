"""Logs on stderr: text for people, one JSON object a line for machines."""

import json
import logging
import math
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from stream_em.errors import StreamEmWarning

OURS = ("stream_em", "stream_em_connectors")
LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "words"}

log = logging.getLogger(__name__)


class LogSettings(NamedTuple):
    """What `--log-format`, `-v` and `-q` ask for."""

    style: str = "auto"  # auto: text on a terminal, JSON otherwise
    verbosity: int = 0  # number of -v minus number of -q

    @property
    def text(self) -> bool:
        """Whether lines are for people."""
        return sys.stderr.isatty() if self.style == "auto" else self.style == "text"

    @property
    def level(self) -> int:
        """The level from which this package's own loggers are heard."""
        return LEVELS[min(max(self.verbosity + 2, 0), 3)]


@contextmanager
def to_stderr(settings: LogSettings, run_id: str) -> Iterator[None]:
    """Send logs and warnings to stderr for the length of the block."""
    handler = _Handler(TextLines() if settings.text else JsonLines(run_id))
    root = logging.getLogger()
    loggers = {root: max(settings.level, logging.WARNING)}
    loggers |= {logging.getLogger(name): settings.level for name in OURS}
    if settings.verbosity > 1:
        loggers[root] = logging.DEBUG
    levels = {logger: logger.level for logger in loggers}
    shown = warnings.showwarning
    root.addHandler(handler)
    try:
        for logger, level in loggers.items():
            logger.setLevel(level)
        warnings.showwarning = _log_warning
        yield
    finally:
        warnings.showwarning = shown
        root.removeHandler(handler)
        for logger, level in levels.items():
            logger.setLevel(level)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    if issubclass(category, StreamEmWarning):
        log.warning("%s", message)
    else:
        log.warning("%s: %s (%s:%d)", category.__name__, message, filename, lineno)


class _Handler(logging.Handler):
    """Writes to whatever stderr is at the moment: a progress display may stand in for it."""

    def __init__(self, formatter: logging.Formatter) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


class JsonLines(logging.Formatter):
    """One JSON object a line: ts, level, event, logger, run_id, and the record's key-values."""

    def __init__(self, run_id: str) -> None:
        logging.Formatter.__init__(self)
        self.run_id = run_id

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        ts = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "ts": ts.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            "run_id": self.run_id,
        }
        entry |= {key: v for key, v in key_values(record).items() if key not in entry}
        if record.exc_info:
            entry["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(finite(entry), default=str, ensure_ascii=False)


class TextLines(logging.Formatter):
    """Time, level, message, and the record's key-values as key=value.

    A record's `words`, where it has such, stand for its message and key-values.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line for people; INFO needs no word, problems do."""
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        extra = "".join(f" {key}={value}" for key, value in key_values(record).items())
        words = getattr(record, "words", None) or record.getMessage() + extra
        text = f"{clock} {level}{words}"
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return text


def key_values(record: logging.LogRecord) -> dict[str, Any]:
    """What a record carries beside the standard attributes."""
    return {key: value for key, value in vars(record).items() if key not in STANDARD}


def finite(value: Any) -> Any:
    """The value with NaN and infinities as None, which is how strict JSON can take them.

    >>> finite({"a": float("nan"), "b": [1.5]})
    {'a': None, 'b': [1.5]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
