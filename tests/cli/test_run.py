"""`stream-em run`: what it writes, how it goes on, and what it refuses."""

import json

from stream_em.cli.running import SUMMARY
from stream_em.errors import Unreachable


def test_a_run_writes_outputs_and_keeps_stdout_clean(cli, here, rows):
    left = cli("run", "-c", "c.toml", "--summary-json", "summary.json")
    assert left.code == 0
    assert left.out == ""
    assert len([json.loads(line) for line in (here / "out.jsonl").read_text().splitlines()]) == rows
    summary = json.loads((here / "summary.json").read_text())
    assert list(summary) == list(SUMMARY)
    assert summary["events"] == summary["total_events"] == rows
    assert summary["clusters"] == 3
    assert summary["log_likelihood_nats_per_event"] is None
    assert summary["resumed_from"] is None
    assert summary["checkpoints"] >= 2


def test_the_summary_on_stdout_is_all_there_is(cli, here, rows):
    left = cli("run", "c.toml", "--summary-json", "-", "-q")
    assert json.loads(left.out)["events"] == rows
    assert left.err == ""


def test_rows_on_stdout_are_all_there_is(cli, here, rows):
    left = cli("run", "c.toml", "--set", 'sinks=[{ kind = "stdout" }]')
    assert left.code == 0
    assert len([json.loads(line) for line in left.out.splitlines()]) == rows


def test_a_second_run_goes_on_where_the_first_ended(cli, here, rows):
    assert cli("run", "c.toml", "--max-events", 450).code == 0
    cli("run", "c.toml", "--summary-json", "s.json")
    summary = json.loads((here / "s.json").read_text())
    assert summary["resumed_from"] is not None
    assert summary["events"] + 400 == summary["total_events"] == rows


def test_from_is_for_fresh_runs(cli, here):
    assert cli("run", "c.toml", "--from", "earliest").code == 0
    left = cli("run", "c.toml", "--from", "earliest")
    assert left.code == 2
    assert "--fresh" in left.err
    assert cli("run", "c.toml", "--from", "earliest", "--fresh").code == 0


def test_a_dry_run_writes_nothing(cli, here, files):
    before = files()
    left = cli("run", "c.toml", "--dry-run")
    assert left.code == 0
    assert "100 rows accepted, 0 rejected" in left.out
    assert files() == before


def test_a_dry_run_that_rejects_everything_says_so(cli, here):
    (here / "in.csv").write_text("x,y\n" + "one,two\n" * 1500)
    left = cli("run", "c.toml", "--dry-run", "--set", "source.batch_size=2000")
    assert left.code == 1
    assert "in field 'x'" in left.err + left.out
    assert "Nothing was written" in left.err
    assert "cut back" not in left.err
    assert "all well" not in left.err + left.out


def test_a_dry_run_finds_what_a_run_would(cli, here):
    assert cli("run", "c.toml", "--dry-run", "--set", "source.path=none.csv").code == 3
    assert cli("run", "c.toml").code == 0
    assert cli("run", "c.toml", "--dry-run", "--set", "model.n_clusters=4").code == 4


def test_a_first_run_does_not_touch_an_output_unless_told(cli, here):
    (here / "out.jsonl").write_text("precious\n")
    assert cli("run", "c.toml").code == 4
    assert (here / "out.jsonl").read_text() == "precious\n"
    assert cli("run", "c.toml", "--overwrite").code == 0
    assert "precious" not in (here / "out.jsonl").read_text()


def test_a_server_nobody_asked_for_may_stay_away(cli, here, monkeypatch):
    def taken(*arguments, **keywords):
        raise Unreachable("the port is taken")

    monkeypatch.setattr("stream_em.server.serve", taken)
    (here / "d.toml").write_text((here / "c.toml").read_text().split("[http]")[0])
    left = cli("run", "d.toml")
    assert left.code == 0
    assert "the port is taken" in left.err
    assert cli("run", "c.toml", "--fresh", "--set", "http.address=127.0.0.1:9464").code == 3
