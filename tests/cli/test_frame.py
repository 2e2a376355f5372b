"""The frame of all commands: exit codes, logs, progress, signals; stdout is for data."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from stream_em.cli.progress import Bar, Status, watching
from stream_em.cli.signals import Stop, handled
from stream_em.metrics.meter import Meter
from stream_em.models.kmeans import KMeans

# -- the frame ----------------------------------------------------------------------------


def test_version_and_help(cli):
    left = cli("--version")
    assert left.code == 0
    assert left.out.startswith("stream-em ")
    assert "numpy" in left.out
    told = cli("--help").out
    for name in ("run", "demo", "check", "init", "config", "inspect", "score", "health"):
        assert f"  {name} " in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["rum"],
        ["run", "--no-such-option"],
        ["run"],
        ["run", "none.toml"],
        ["run", "c.toml", "-c", "d.toml"],
        ["run", "c.toml", "--max-events", "many"],
        ["run", "c.toml", "--set", "nonsense"],
        ["run", "c.toml", "--set", "model.kind=kmean"],
        ["run", "c.toml", "--from", "somewhere"],
        ["run", "c.toml", "--from", "committed"],
        ["run", "c.toml", "--set", "sinks.0.path=in.csv"],
        ["run", "c.toml", "--set", "sinks.1.kind=stdout", "--summary-json", "-"],
        ["score", "saved"],
        ["init", "none.csv", "--no-such-option"],
    ],
    ids=" ".join,
)
def test_wrong_usage_and_configuration_are_2(cli, here, arguments, files):
    before = files()
    left = cli(*arguments)
    assert left.code == 2
    assert left.out == ""
    assert left.err
    assert files() == before


def test_an_input_that_is_not_there_is_3(cli, here):
    left = cli("run", "c.toml", "--set", "source.path=none.csv")
    assert left.code == 3
    assert "none.csv" in left.err


def test_saved_state_that_disagrees_is_4(cli, here):
    assert cli("run", "c.toml").code == 0
    left = cli("run", "c.toml", "--set", "model.n_clusters=4")
    assert left.code == 4
    assert "n_clusters" in left.err


def test_a_run_that_fails_is_1(cli, here, rows):
    lines = (here / "in.csv").read_text().splitlines()
    (here / "in.csv").write_text("\n".join([lines[0], *["a,b"] * rows]) + "\n")
    left = cli("run", "c.toml")
    assert left.code == 1
    assert "max_reject_ratio" in left.err


def test_the_unexpected_is_1_and_shows_its_origin_only_when_asked(cli, here, monkeypatch):
    def broken(*arguments, **keywords):
        raise ZeroDivisionError("broken on purpose")

    monkeypatch.setattr("stream_em.config.load", broken)
    short = cli("run", "c.toml")
    assert short.code == 1
    assert "broken on purpose" in short.err
    assert "Traceback" not in short.err
    assert "Traceback" in cli("run", "c.toml", "-v").err


# -- logs ---------------------------------------------------------------------------------


def test_logs_are_json_lines_where_stderr_is_no_terminal(cli, here, rows):
    lines = [json.loads(line) for line in cli("run", "c.toml").err.splitlines()]
    assert lines
    for line in lines:
        assert {"ts", "level", "event", "logger", "run_id"} <= set(line)
        assert line["ts"].endswith("Z")
    assert len({line["run_id"] for line in lines}) == 1
    (end,) = [line for line in lines if line["event"] == "finished"]
    assert end["total_events"] == rows


def test_text_is_for_people(cli, here, rows):
    err = cli("run", "c.toml", "--log-format", "text").err
    assert f"finished (end): {rows:,} events" in err
    assert not err.startswith("{")
    assert cli("--log-format", "text", "run", "none.toml").err.count("error: ") == 1


def test_quiet_and_verbose_may_stand_before_or_after_the_command(cli, here):
    assert cli("-q", "run", "c.toml").err == ""
    assert cli("run", "-q", "c.toml", "--fresh").err == ""


# -- progress -----------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(("left", "kind"), [(100, Bar), (None, Status)])
def test_a_terminal_gets_a_bar_for_an_input_with_an_end_else_a_line(monkeypatch, left, kind):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    meter = Meter(KMeans(n_clusters=2))
    with watching(10.0) as watch:
        watch(meter.state("restoring"))
        assert watch.display is None
        meter.input(connected=True, lag_bytes=left)
        watch(meter.state("running"))
        assert isinstance(watch.display, kind)
    assert sys.stderr.getvalue()


def test_where_there_is_no_terminal_log_lines_tell_how_it_goes(caplog):
    meter = Meter(KMeans(n_clusters=2))
    meter.input(connected=True)
    with caplog.at_level("INFO", logger="stream_em"), watching(0.0) as watch:
        watch(meter.state("running"))
    (record,) = [record for record in caplog.records if record.message == "running"]
    assert record.events == 0


class Rates:
    """A display that remembers rates."""

    every_seconds, lasting = 0.0, False

    def __init__(self):
        self.found = []

    def show(self, figures, rate):
        self.found.append(rate)

    def close(self):
        """Nothing is open."""


def test_the_rate_after_a_resume_leaves_out_what_the_checkpoint_knew():
    meter, rates = Meter(KMeans(2)), Rates()
    with watching(10.0) as watch:
        watch.display = rates
        watch(meter.state("restoring"))
        meter.restored(10**9)
        meter.input(connected=True)
        watch(meter.state("running"))
        time.sleep(0.01)
        watch(meter.idle(0.01))
    assert rates.found
    assert max(rates.found) < 1.0


# -- signals ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_handlers_are_put_back(number):
    before, stop = signal.getsignal(number), Stop()
    with handled(stop):
        os.kill(os.getpid(), number)
        assert stop.requested.wait(5)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_ends_at_once(number, code):
    program = (
        "import os; from stream_em.cli.signals import Stop, handled\n"
        "with handled(Stop()):\n"
        f"    os.kill(os.getpid(), {int(number)}); os.kill(os.getpid(), {int(number)})\n"
        "    raise SystemExit('still here')\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_the_very_end_changes_nothing(number):
    program = (
        "import atexit, os, sys; from stream_em.cli import main\n"
        f"atexit.register(os.kill, os.getpid(), {int(number)})\n"
        "sys.argv = ['stream-em', '--version']; main()\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["run", "nothing.toml"], 2)])
def test_a_thread_left_behind_does_not_hold_up_the_end(here, arguments, code):
    program = (
        "import threading; from stream_em.cli import main\n"
        "threading.Thread(target=threading.Event().wait).start(); main()\n"
    )
    command = [sys.executable, "-c", program, *arguments]
    left = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert left.returncode == code
    assert "stream-em" in left.stdout if code == 0 else "nothing.toml" in left.stderr


STUCK = """
import sys, threading, time
from stream_em.cli import main
threading.Thread(target=sys.stdout.buffer.write, args=(bytes(10_000_000),)).start()
time.sleep(0.5)
main()
"""


def test_a_reader_who_takes_nothing_does_not_hold_up_the_end(here):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", STUCK, "run", "nothing.toml"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "env": environment}
    with subprocess.Popen(command, **pipes) as process:
        assert process.wait(60) == 2


def test_nobody_at_standard_output_changes_no_exit_code(here):
    program = "import threading; from stream_em.cli import main\n"
    program += "threading.Thread(target=threading.Event().wait).start(); main()\n"
    line = ["sh", "-c", 'exec "$0" -c "$1" run nothing.toml >&-', sys.executable, program]
    left = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (left.returncode, "Traceback" in left.stderr) == (2, False)


def test_a_signalled_process_drains_and_leaves_with_0(here):
    command = [sys.executable, "-m", "stream_em", "run", "c.toml", "--set", "source.path=-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=here, **pipes) as process:
        process.stdin.write((here / "in.csv").read_text())
        process.stdin.flush()
        for _ in iter(lambda: (here / "saved").exists(), True):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == ""
    assert err.count("draining") == 1
