"""`inspect`, `score` and `health`: saved state and running engines looked at."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer


def test_inspect_shows_a_folder_and_a_file(cli, here, rows):
    cli("run", "c.toml")
    shown = cli("inspect", "saved")
    assert shown.code == 0
    assert f"{rows:,} accepted" in shown.out
    newest = sorted((here / "saved").glob("*.ckpt"))[-1]
    facts = json.loads(cli("inspect", newest, "--json").out)
    assert facts["total_events"] == rows
    assert facts["features"] == ["x", "y"]
    assert facts["model"]["kind"] == "kmeans"
    assert len(facts["clusters"]["uids"]) == 3


def test_inspect_passes_over_a_damaged_newest_and_refuses_a_damaged_file(cli, here):
    cli("run", "c.toml")
    *_, older, newest = sorted((here / "saved").glob("*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:-7])
    assert cli("inspect", newest).code == 4
    left = cli("inspect", "saved")
    assert left.code == 0
    assert older.name in left.out
    assert cli("inspect", here / "none.ckpt").code == 4
    (here / "empty").mkdir()
    assert cli("inspect", here / "empty").code == 4


def test_score_assigns_rows_and_learns_nothing(cli, here, rows):
    cli("run", "c.toml")
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    sniffed, configured = cli("score", "saved", "in.csv"), cli("score", "saved", "-c", "c.toml")
    assert sniffed.code == configured.code == 0
    assigned = [json.loads(line) for line in sniffed.out.splitlines()]
    assert len(assigned) == rows
    assert {row["cluster"] for row in assigned} == {0, 1, 2}
    assert sniffed.out == configured.out
    assert before == {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    header = (here / "out.jsonl").read_text().splitlines()[0]
    assert list(assigned[0]) == list(json.loads(header))


def test_instances_that_share_a_folder_are_named(cli, here):
    for instance in ("one", "two"):
        assert (
            cli("run", "c.toml", "--overwrite", "--set", f"engine.instance_id={instance}").code == 0
        )
    left = cli("inspect", "saved")
    assert left.code == 4
    assert "give saved/one or saved/two" in left.err + left.out
    assert cli("inspect", "saved/one").code == 0


def test_score_ends_where_a_followed_file_ends(cli, here, rows):
    cli("run", "c.toml")
    left = cli("score", "saved", "-c", "c.toml", "--set", "source.follow=true")
    assert left.code == 0
    assert len(left.out.splitlines()) == rows


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        well = self.path == "/livez"
        self.send_response(200 if well else 503)
        self.end_headers()
        self.wfile.write(b"well" if well else b"not ready")

    def log_message(self, *arguments):
        pass


def test_health_asks_and_answers(cli):
    server = HTTPServer(("127.0.0.1", 0), Answer)
    url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert cli("health", "--url", url)[:2] == (0, "well\n")
        assert cli("health", "--url", url, "--ready")[:2] == (1, "not ready\n")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    gone = cli("health", "--url", url)
    assert gone.code == 1
    assert "no answer" in gone.out
