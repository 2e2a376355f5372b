"""The command `stream-em`: its group of commands and its way out."""

import logging
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

from stream_em.cli import check, config, demo, health, init, inspect, replay, run, score
from stream_em.cli.shell import shell
from stream_em.cli.signals import ignore_signals

FLUSH_SECONDS = 1.0  # for what was said last to be taken


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    import platform
    from importlib.metadata import version

    ours, numpy = version("stream-em"), version("numpy")
    click.echo(f"stream-em {ours} (Python {platform.python_version()}, numpy {numpy})")
    context.exit()


@click.group(
    commands=[
        run.command,
        replay.command,
        demo.command,
        check.command,
        init.command,
        config.command,
        inspect.command,
        score.command,
        health.command,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@shell
def group() -> None:
    """Streaming clustering: k-means, soft k-means and Gaussian mixtures over event streams.

    First steps: `stream-em demo`, then `stream-em init data.csv > stream-em.toml` and
    `stream-em run -c stream-em.toml`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0 finished or stopped cleanly,
    1 failed, 2 wrong usage or configuration, 3 input or output unreachable at the start,
    4 saved state and the world disagree, 5 drain deadline exceeded, 130 or 143 forced.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    code = _outcome(given)
    if arguments is None:
        ignore_signals()  # all is said and done: how it ended stays so
        if threading.active_count() > 1:
            _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """Without the interpreter's tidying up, which a thread left behind in a call can hold up
    for good: what matters is durable by now. Nor does a reader who takes nothing hold it up.
    """
    flushing = threading.Thread(target=_flush, daemon=True)
    flushing.start()
    flushing.join(FLUSH_SECONDS)
    os._exit(code)


def _flush() -> None:
    for flush in (
        logging.shutdown,
        *(stream.flush for stream in (sys.stdout, sys.stderr) if stream is not None),
    ):
        with suppress(OSError, ValueError):
            flush()


def _outcome(arguments: list[str]) -> int:
    try:
        code = group.main(arguments, prog_name="stream-em", standalone_mode=False)
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0
