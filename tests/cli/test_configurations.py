"""`check`, `config show` and `init`: configurations looked at and begun."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_em.cli.sniff import sniff
from stream_em.errors import SettingsError, Unreachable

# -- check and config show ----------------------------------------------------------------


def test_check_says_clean_findings_or_unreadable(cli, here):
    clean = cli("check", "c.toml")
    assert (clean.code, clean.out) == (0, "c.toml: no findings\n")
    text = (here / "c.toml").read_text()
    (here / "bad.toml").write_text(text.replace("n_clusters", "n_cluster").replace("csv", "cvs"))
    bad = cli("check", "bad.toml")
    assert bad.code == 1
    assert "bad.toml:8: error: model.n_cluster is unknown; did you mean 'n_clusters'?" in bad.out
    assert "did you mean 'csv'?" in bad.out
    assert cli("check", "none.toml").code == 2
    (here / "torn.toml").write_text("[source")
    assert cli("check", "torn.toml").code == 2


def test_check_counts_warnings_when_told(cli, here):
    text = (here / "c.toml").read_text()
    (here / "w.toml").write_text(text.split("[checkpoints]")[0])
    assert cli("check", "w.toml").code == 0
    assert cli("check", "w.toml", "--deny-warnings").code == 1
    told = json.loads(cli("check", "w.toml", "--json").out)
    assert [finding["severity"] for finding in told["findings"]] == ["warning"]


def test_config_show(cli, here, monkeypatch):
    monkeypatch.setenv("STREAM_EM_ENGINE__SEED", "11")
    merged = cli("config", "show", "c.toml", "--set", "model.n_clusters=5")
    assert merged.code == 0
    assert "n_clusters = 5" in merged.out
    assert "seed = 11" in merged.out
    resolved = cli("config", "show", "--resolved", "-c", "c.toml").out
    (seed,) = [line for line in resolved.splitlines() if line.startswith("seed = ")]
    assert seed.endswith("# env STREAM_EM_ENGINE__SEED")
    assert cli("config", "show", "none.toml").code == 2


# -- init ---------------------------------------------------------------------------------


def test_init_without_data_is_a_sound_configuration(cli, here):
    left = cli("init")
    (here / "new.toml").write_text(left.out)
    assert cli("check", "new.toml").code == 0
    assert 'scaling = "standardise"' in left.out


def table(kind, folder):
    """The same table of six rows in one of the formats, and its path."""
    data = {
        "at": [f"2026-05-0{i + 1}T00:00:00" for i in range(6)],
        "device_id": [1, 2, 3, 4, 5, 6],
        "load": [1.5, 2.5, 3.5, 4.5, 5.5, 6.5],
        "temperature": [1.25, -2.0, 3.0, 4.5, 5.0, 6.0],
        "place": ["a", "b", "c", "d", "e", "f"],
    }
    path = folder / f"data.{kind}"
    rows = [dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True)]
    if kind == "parquet":
        pq.write_table(pa.table(data), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [";".join(data), *(";".join(map(str, row.values())) for row in rows)]
        text = "\n".join(lines).replace(".", ",") + "\n"
        packed = {"csv.gz": gzip.compress, "csv.zst": pa.Codec("zstd").compress}
        path.write_bytes(packed.get(kind, bytes)(text.encode()))
    return path


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "csv.zst", "jsonl", "parquet"])
def test_init_looks_at_the_data(cli, here, kind):
    path = table(kind, here)
    found = sniff(path)
    assert found.named("feature") == ["load", "temperature"]
    assert found.named("time") == ["at"]
    assert found.named("identifier") == ["device_id"]
    left = cli("init", path)
    assert left.code == 0
    (here / "new.toml").write_text(left.out)
    assert cli("check", "new.toml").code == 0
    assert cli("run", "new.toml", "--dry-run", "--set", "http.address=off").code == 0


def test_sniffing_tells_delimiter_decimal_and_header(here):
    assert sniff(table("csv", here)).settings == {"delimiter": ";", "decimal": ","}
    (here / "bare.csv").write_text("1,2.5\n3,4.5\n")
    found = sniff(here / "bare.csv")
    assert found.settings == {"header": False}
    assert found.named("feature") == ["0", "1"]


def test_sniffing_knows_other_encodings_and_times(here):
    rows = "größe,ts,at\n1.5,1700000000,1700000000000\n2.5,1700000060,1700000060000\n"
    (here / "odd.csv").write_bytes(rows.encode("latin-1"))
    found = sniff(here / "odd.csv")
    assert found.settings == {"encoding": "latin-1"}
    assert found.named("feature") == ["größe"]
    assert found.named("time") == ["ts"]
    assert found.named("milliseconds") == ["at"]


@pytest.mark.parametrize(
    ("content", "error"), [(b"", SettingsError), (b"\xff\xfe1\0", SettingsError)]
)
def test_what_cannot_be_sniffed_says_why(here, content, error):
    (here / "odd.csv").write_bytes(content)
    with pytest.raises(error):
        sniff(here / "odd.csv")
    with pytest.raises(Unreachable):
        sniff(here)
