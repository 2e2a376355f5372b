"""`inspect --k-curve`: how many clusters, as a table, a picture and JSON."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from stream_em.cli.charts import Panel, bar, svg


@pytest.fixture
def learned(cli, here):
    """A folder with a saved mixture of more components than there are blobs, and new rows."""
    text = (here / "c.toml").read_text()
    text = text.replace(
        'kind = "kmeans"\nn_clusters = 3', 'kind = "gaussian-mixture"\nn_components = 6'
    )
    (here / "c.toml").write_text(text)
    rng = np.random.default_rng(8)
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    rows = centres[rng.integers(3, size=500)] + rng.normal(size=(500, 2))
    np.savetxt("new.csv", rows, delimiter=",", header="x,y", comments="")
    assert cli("run", "c.toml").code == 0
    return here


def test_a_mixture_has_a_table_and_its_best_k_marked(cli, learned):
    left = cli("inspect", "saved", "--k-curve", "new.csv")
    assert left.code == 0
    header = next(line for line in left.out.splitlines() if "J per event" in line)
    for name in ("K", "log-likelihood", "BIC", "merge cost"):
        assert name in header
    lines = [line for line in left.out.splitlines() if line[:1].isdigit()]
    rows = {int(line.split()[0]): line for line in lines}
    assert sorted(rows) == list(range(1, max(rows) + 1))
    assert [k for k, line in rows.items() if "best" in line] == [3]
    assert rows[1].count("█") > rows[2].count("█") > rows[3].count("█") == 0
    assert "best K       3" in left.out


def test_json_and_svg_hold_the_same_curve(cli, learned):
    left = cli("inspect", "saved", "--k-curve", "new.csv", "--json", "--svg", "curve.svg")
    assert left.code == 0
    facts = json.loads(left.out)
    curve = facts["k_curve"]
    assert curve["best"] == 3
    assert curve["k"] == list(range(curve["k"][0], 0, -1))
    columns = ("objective_per_event", "log_likelihood_nats_per_event", "bic", "merge_cost")
    assert {len(curve[name]) for name in columns} == {len(curve["k"])}
    assert curve["bic"].index(min(curve["bic"])) == curve["k"].index(3)
    drawn = ElementTree.parse(learned / "curve.svg").getroot()
    corners = [
        line.get("points").split() for line in drawn.iter("{http://www.w3.org/2000/svg}polyline")
    ]
    assert [len(points) for points in corners] == [len(curve["k"])] * 3
    assert "k_curve" not in json.loads(cli("inspect", "saved", "--json").out)


def test_rows_are_read_as_the_configuration_says_and_bad_ones_are_left_out(cli, learned):
    lines = (learned / "new.csv").read_text().replace(",", ";").splitlines()
    (learned / "other.csv").write_text("\n".join([*lines, "a;b", "nan;1"]) + "\n")
    plain = cli("inspect", "saved", "--k-curve", "new.csv", "--json")
    other = cli(
        *("inspect", "saved", "--k-curve", "other.csv", "--json"),
        *("-c", "c.toml", "--set", 'source.delimiter=";"'),
    )
    assert other.code == 0
    assert json.loads(other.out)["k_curve"] == json.loads(plain.out)["k_curve"]
    assert "2 records rejected" in other.err


def test_k_means_has_an_elbow_and_no_likelihood(cli, here):
    assert cli("run", "c.toml", "--set", "model.n_clusters=7").code == 0
    left = cli("inspect", "saved", "--k-curve", "in.csv", "--svg", "curve.svg")
    assert left.code == 0
    assert "BIC" not in left.out
    assert "best K       3, by the elbow of log J" in left.out
    facts = json.loads(cli("inspect", "saved", "--k-curve", "in.csv", "--json").out)
    assert set(facts["k_curve"]["bic"]) == {None}


def test_wrong_uses_say_what_to_do(cli, learned):
    assert cli("inspect", "saved", "--svg", "curve.svg").code == 2
    assert cli("inspect", "saved", "--k-curve", "none.csv").code == 3
    (learned / "empty.csv").write_text("x,y\n")
    left = cli("inspect", "saved", "--k-curve", "empty.csv")
    assert left.code != 0
    assert "held out" in left.err
    unwritable = cli("inspect", "saved", "--k-curve", "new.csv", "--svg", "no/folder.svg")
    assert unwritable.code == 3


def test_inspect_tells_what_is_beside_the_clusters(cli, learned):
    facts = json.loads(cli("inspect", "saved", "--json").out)
    assert facts["rows_set_aside"] >= 0
    assert 0 < facts["background_share"] < 0.5
    assert facts["slots_free"] == 6 - len(facts["clusters"]["slots"])
    assert facts["averaged"] is True
    shown = cli("inspect", "saved").out
    assert f"{facts['rows_set_aside']} rows set aside" in shown
    assert "averaged statistics kept" in shown


def test_pictures_of_next_to_nothing_are_still_pictures():
    assert bar(0.0) == ""
    assert bar(2.0, 3) == "███"
    panels = [Panel("one & only", [5.0]), Panel("none", [float("nan")], logarithmic=True)]
    drawn = svg("a < b", "K", [1], panels, 1)
    root = ElementTree.fromstring(drawn)
    assert root.find("{http://www.w3.org/2000/svg}title").text == "a < b"
    assert "nan" not in drawn
