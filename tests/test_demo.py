"""The first thing a stranger types: it ends well, in a folder of its own."""

import json
import subprocess
import sys

import pytest

EVENTS = 49_097


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One run of the demo: what it printed, and its folder."""
    place = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "stream_em", "demo"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = place.iterdir()
    return done, folder


def test_it_names_a_new_folder_that_holds_everything(demo):
    done, folder = demo
    assert folder.name.startswith("stream-em-demo-")
    assert str(folder) in done.stdout
    lines = (folder / "assignments.jsonl").read_text().splitlines()
    assert len(lines) == EVENTS
    assert json.loads(lines[-1])["log_likelihood"] is not None
    assert list((folder / "checkpoints").glob("*.ckpt"))


def test_it_shows_how_it_went_and_what_to_try_next(demo):
    done, folder = demo
    last = json.loads(done.stderr.splitlines()[-1])
    assert last["event"] == "finished"
    assert last["total_events"] == EVENTS
    assert last["objective_per_event"] > 0
    assert isinstance(last["log_likelihood_nats_per_event"], float)
    assert "slot" in done.stdout
    assert f"stream-em inspect {folder}" in done.stdout
    assert f"stream-em run -c {folder / 'demo.toml'}" in done.stdout


def test_its_configuration_is_clean(demo):
    _, folder = demo
    command = [sys.executable, "-m", "stream_em", "check", "--deny-warnings"]
    assert subprocess.run([*command, folder / "demo.toml"], check=False).returncode == 0
