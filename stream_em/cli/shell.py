"""What all commands share: log options, and errors turned into messages and exit codes."""

import functools
import json
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stream_em.cli.logs import LogSettings, to_stderr
from stream_em.errors import StreamEmError

log = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable[..., Any])
META = "stream_em.logs"
ENVIRONMENT = click.core.ParameterSource.ENVIRONMENT


def _note_style(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    from_environment = context.get_parameter_source(str(parameter.name)) is ENVIRONMENT
    now: LogSettings = context.meta.get(META, LogSettings())
    if value is not None and (now.style == "auto" or not from_environment):
        _note(context, style=value)


def _note_verbose(context: click.Context, parameter: click.Parameter, value: int) -> None:
    _note(context, louder=value)


def _note_quiet(context: click.Context, parameter: click.Parameter, value: int) -> None:
    _note(context, louder=-value)


def _note(context: click.Context, style: str | None = None, louder: int = 0) -> None:
    now: LogSettings = context.meta.get(META, LogSettings())
    context.meta[META] = LogSettings(style or now.style, now.verbosity + louder)


LOG_OPTIONS = (  # the last comes first in the help
    click.option(
        "-q",
        "--quiet",
        count=True,
        expose_value=False,
        callback=_note_quiet,
        help="Say less: warnings only; twice: errors only.",
    ),
    click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_note_verbose,
        help="Say more, and where errors come from; twice: libraries too.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["auto", "text", "json"]),
        envvar="STREAM_EM_LOG_FORMAT",
        show_envvar=True,
        expose_value=False,
        callback=_note_style,
        help="Form of the logs on stderr; auto: text on a terminal, JSON otherwise.",
    ),
)


def shell(function: F) -> F:
    """Give a command its log options and its error handling."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        settings = log_settings()
        with to_stderr(settings, secrets.token_hex(6)):
            return _guarded(functools.partial(function, *args, **kwargs), settings)

    for option in LOG_OPTIONS:
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def _guarded(body: Callable[[], Any], settings: LogSettings) -> Any:
    detail = settings.verbosity > 0
    try:
        return body()
    except StreamEmError as error:
        log.error("%s", error, exc_info=detail)
        raise click.exceptions.Exit(error.exit_code) from error
    except MemoryError as error:
        log.error("out of memory; smaller batches or fewer clusters need less", exc_info=detail)
        raise click.exceptions.Exit(1) from error
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}; this was not expected, -v shows where"
        log.error("%s", text, exc_info=detail)
        raise click.exceptions.Exit(1) from error


def log_settings() -> LogSettings:
    """The log settings in force."""
    found: LogSettings = click.get_current_context().meta.get(META, LogSettings())
    return found


def chosen_file(option: Path | None, argument: Path | None) -> Path:
    """The configuration file, given either way."""
    if option is not None and argument is not None and option != argument:
        raise click.UsageError(f"two configurations given, {option} and {argument}; choose one")
    chosen = option or argument
    if chosen is None:
        raise click.UsageError("no configuration given; add -c FILE, or write one: stream-em init")
    return chosen


def say(text: str) -> None:
    """Data: a line on stdout."""
    click.echo(text)


def say_json(value: Any) -> None:
    """Data: a JSON document on stdout, readable for people too."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
