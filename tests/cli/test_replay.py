"""`stream-em replay`: from a configuration to the next checkpoint, and never past unread rows."""

import json

import pytest

import stream_em as se


def test_it_learns_all_rows_and_run_goes_on_from_there(cli, here, rows):
    left = cli("replay", "-c", "c.toml", "--sweeps", "5")
    assert left.code == 0, left.err
    header, *table = left.out.splitlines()
    assert header.split() == ["slot", "uid", "weight", "count", "x", "y"] and len(table) == 3
    facts = json.loads(cli("inspect", "--json", "saved").out)
    assert facts["number"] == 1 and facts["total_events"] == rows
    assert sum(facts["clusters"]["counts"]) == pytest.approx(rows)
    assert cli("run", "-c", "c.toml").code == 0
    assert json.loads(cli("inspect", "--json", "saved").out)["total_events"] == rows
    assert (here / "out.jsonl").read_bytes() == b""  # a replay owes no output rows


def test_it_begins_with_the_clusters_of_the_newest_checkpoint(cli, here, rows):
    assert cli("run", "-c", "c.toml").code == 0
    before = json.loads(cli("inspect", "--json", "saved").out)
    outputs = (here / "out.jsonl").read_bytes()
    assert cli("replay", "c.toml", "--fast").code == 0
    after = json.loads(cli("inspect", "--json", "saved").out)
    assert after["number"] == before["number"] + 1
    assert after["clusters"]["uids"] == before["clusters"]["uids"]
    assert after["positions"] == before["positions"]
    assert cli("run", "-c", "c.toml").code == 0
    assert (here / "out.jsonl").read_bytes() == outputs
    assert len(outputs.splitlines()) == rows


def test_rows_that_still_owe_outputs_are_not_skipped(cli, here, files):
    assert cli("run", "-c", "c.toml", "--max-events", "500").code == 0
    before = files()
    left = cli("replay", "-c", "c.toml")
    assert left.code == 4 and "end of the input" in left.err
    assert files() == before
    assert cli("replay", "-c", "c.toml", "-o", "model.ckpt").code == 0
    assert files() == sorted([*before, "model.ckpt"])
    model, state = se.load("model.ckpt")
    assert model == se.KMeans(3) and state.features == ("x", "y")


def test_a_result_that_would_be_kept_nowhere_is_refused_first(cli, here):
    text = (here / "c.toml").read_text().replace("[checkpoints]", "[[sinks]]\nkind='stdout'\n#")
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("dire", "every_")))
    (here / "c.toml").write_text(text)
    left = cli("replay", "-c", "c.toml")
    assert left.code == 2 and "--output" in left.err
