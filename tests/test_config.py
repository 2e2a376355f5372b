"""Configuration: layers and their precedence, provenance, findings, and what is shown."""

import tomllib

import pytest

from stream_em.config import examine, load, merged
from stream_em.config import toml as written
from stream_em.config.layers import from_environment, from_settings, from_text, laid_over, plain
from stream_em.config.lines import key_lines
from stream_em.config.masks import MASK
from stream_em.config.settings import HttpSettings
from stream_em.config.show import as_merged, as_resolved
from stream_em.errors import SettingsError

GOOD = """\
[engine]
seed = 3

[source]
kind = "csv"
path = "in*.csv"
features = ["x", "y"]

[model]
kind = "gaussian-mixture"
n_components = 4
covariance = "diagonal"
forgetting = { kind = "half-life", events = 500 }

[[sinks]]
kind = "jsonl"
path = "out.jsonl"

[checkpoints]
directory = "saved"
every_events = 1000
"""


@pytest.fixture
def file(tmp_path):
    """Writes a configuration and gives its path."""

    def write(text, name="clusters.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def errors(path, settings=(), environ=None):
    found = examine(merged(path, settings, environ)).findings
    return [finding for finding in found if finding.severity == "error"]


# -- the plan ---------------------------------------------------------------------------


def test_a_table_is_a_constructor_call(file):
    plan = load(file(GOOD))
    assert plan.engine.name == "clusters"
    assert plan.engine.seed == 3
    assert plan.engine.shutdown_timeout_seconds == 30
    assert plan.source.kind == "csv"
    assert plan.source.path == "in*.csv"
    assert plan.model.n_components == 4
    assert plan.model.covariance.kind == "diagonal"
    assert plan.model.forgetting.events == 500
    assert [sink.kind for sink in plan.sinks] == ["jsonl"]
    assert plan.dead_letters is None
    assert (plan.schedule.every_events, plan.schedule.every_seconds, plan.schedule.keep) == (
        1000,
        30,
        3,
    )
    assert plan.store is not None
    assert plan.http.address == "127.0.0.1:9464"
    assert not plan.http_given


def test_a_bare_string_stands_for_a_table_with_only_its_kind(file):
    table = load(file(GOOD.replace('"diagonal"', '{ kind = "diagonal" }')))
    assert table.model == load(file(GOOD)).model


@pytest.mark.parametrize(("short", "kinds"), [("sinks=[]", []), ('sinks=["stdout"]', ["stdout"])])
def test_a_list_of_sinks_may_be_short_or_empty(file, short, kinds):
    assert [sink.kind for sink in load(file(GOOD), [short]).sinks] == kinds


def test_without_checkpoints_and_sinks_there_are_warnings_and_a_plan(file):
    text = GOOD.split("[[sinks]]")[0]
    examined = examine(merged(file(text)))
    assert examined.plan is not None
    assert examined.plan.store is None
    assert {f.severity for f in examined.findings} == {"warning"}
    assert len(examined.findings) == 2


def test_dead_letters_are_any_sink(file):
    plan = load(file(GOOD + '[dead_letters]\nkind = "jsonl"\npath = "dead.jsonl"\n'))
    assert plan.dead_letters is not None
    assert plan.dead_letters.name.endswith("dead.jsonl")


# -- findings ---------------------------------------------------------------------------


def test_all_findings_are_collected_over_the_sections(file):
    text = GOOD.replace("seed = 3", "sede = 3").replace("n_components = 4", "n_component = 4")
    text = text.replace('kind = "csv"', 'kind = "cvs"').replace("every_events", "every_event")
    text = text.replace('path = "out.jsonl"', 'pth = "out.jsonl"') + "[htpp]\naddress = 'off'\n"
    found = errors(file(text))
    told = "\n".join(f.message for f in found)
    for hint in ("seed", "n_components", "csv", "every_events", "path", "http"):
        assert f"did you mean '{hint}'?" in told, hint
    assert {f.origin for f in found} >= {f"clusters.toml:{n}" for n in (2, 5, 11, 17, 21)}


def test_load_raises_one_error_that_names_every_finding(file):
    path = file(GOOD.replace("seed = 3", "sede = 3").replace("n_components", "n_component"))
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert "engine.sede" in str(caught.value)
    assert "model.n_component" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 3", "seed = -1", "seed is -1"),
        ("seed = 3", 'seed = "3"', "engine.seed"),
        ("seed = 3", 'name = " "', "name is empty"),
        ("seed = 3", "shutdown_timeout_seconds = 0", "shutdown_timeout_seconds"),
        ("n_components = 4", "n_components = 0", "n_components"),
        ("n_components = 4", "", "n_components"),
        ('"diagonal"', '"diagnal"', "did you mean 'diagonal'?"),
        ("every_events = 1000", "keep = 1", "at least 2"),
        ("every_events = 1000", "every_seconds = -1", "every_seconds"),
        ('directory = "saved"', "", "checkpoints.directory"),
        ('"out.jsonl"', '"in1.csv"', "in*.csv"),
        ("[[sinks]]", "[sinks]", "[[sinks]]"),
        ("[source]", "[sources]", "[source] is missing"),
        ("[engine]\nseed = 3", "engine = 3", "engine is 3"),
        ('kind = "gaussian-mixture"', "", "kind"),
    ],
)
def test_what_is_wrong_is_named(file, old, new, said):
    assert old in GOOD
    assert said in "\n".join(f.message for f in errors(file(GOOD.replace(old, new))))


def test_exactly_once_is_not_to_be_had_on_stdout(file):
    short = "sinks=[{ kind = 'stdout', delivery = 'exactly-once' }]"
    (found,) = errors(file(GOOD), [short])
    assert "standard output" in found.message
    assert found.origin == "--set"


def test_two_equal_outputs_are_refused(file):
    twice = GOOD + '[dead_letters]\nkind = "jsonl"\npath = "./out.jsonl"\n'
    assert any("same" in finding.message for finding in errors(file(twice)))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("checkpoints.every_seconds=301", "every_seconds = 300 or less"),
        ("checkpoints.every_seconds=0", "every_seconds is 0"),
        ("sinks.0.transaction_timeout_seconds=10", "transaction_timeout_seconds is 10"),
    ],
)
def test_intervals_that_no_transaction_outlives_are_found(file, setting, said):
    text = GOOD.replace(
        'kind = "jsonl"\npath = "out.jsonl"',
        'kind = "kafka"\nbootstrap_servers = "127.0.0.1:9"\ntopic = "out"',
    )
    named = 'engine.name="readings"'
    assert errors(file(text), [named]) == []
    (found,) = errors(file(text), [named, setting])
    assert said in found.message


@pytest.mark.parametrize("text", ["[model", "a = ", "\x00"])
def test_no_toml_is_an_error_of_its_own(file, text):
    with pytest.raises(SettingsError, match="not valid TOML"):
        merged(file(text))


def test_a_missing_file_points_to_init(tmp_path):
    with pytest.raises(SettingsError, match="stream-em init"):
        merged(tmp_path / "none.toml")


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        merged(tmp_path)


# -- precedence -------------------------------------------------------------------------


def test_set_wins_over_environment_over_file_over_default(file):
    path = file(GOOD)
    environ = {"STREAM_EM_MODEL__N_COMPONENTS": "6", "STREAM_EM_ENGINE__SEED": "9"}
    plan = load(path, ["model.n_components=8"], environ)
    assert (plan.model.n_components, plan.engine.seed) == (8, 9)
    assert load(path, (), environ).model.n_components == 6
    assert load(path).model.n_components == 4


def test_the_environment_reaches_defaults_and_lists(file):
    environ = {
        "STREAM_EM_HTTP__ADDRESS": "0.0.0.0:9999",
        "STREAM_EM_SINKS__0__PATH": "elsewhere.jsonl",
        "STREAM_EM_LOG_FORMAT": "json",  # an option's variable, no setting
    }
    plan = load(file(GOOD), (), environ)
    assert (plan.http.address, plan.http_given) == ("0.0.0.0:9999", True)
    assert plan.sinks[0].name.endswith("elsewhere.jsonl")


def test_an_unknown_variable_is_a_finding_that_names_it(file):
    (found,) = errors(file(GOOD), (), {"STREAM_EM_HTTP__ADRESS": "off"})
    assert found.origin == "env STREAM_EM_HTTP__ADRESS"
    assert "did you mean 'address'?" in found.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=8", 8),
        ("a.b=8.5", 8.5),
        ("a.b=true", True),
        ('a.b="8"', "8"),
        ("a.b=full", "full"),
        ("a.b=[1, 2]", [1, 2]),
        ('a.b={ kind = "full" }', {"kind": "full"}),
        ("a.b=", ""),
        ("a.b=x=y", "x=y"),
        ("a.b=1\nc=2", "1\nc=2"),
    ],
)
def test_set_takes_toml_values_and_bare_strings(text, value):
    assert plain(laid_over({}, from_settings([text]))) == {"a": {"b": value}}


@pytest.mark.parametrize("text", ["a.b", "=3", "a..b=3"])
def test_a_malformed_set_shows_the_form(text):
    with pytest.raises(SettingsError, match="path=value"):
        from_settings([text])


def test_set_indexes_lists_and_appends_at_the_end():
    tree = from_text('[[sinks]]\nkind = "jsonl"\npath = "a"', "f")
    overrides = from_settings(["sinks.0.path=b", "sinks.1.kind=stdout"])
    expected = {"sinks": [{"kind": "jsonl", "path": "b"}, {"kind": "stdout"}]}
    assert plain(laid_over(tree, overrides)) == expected
    assert plain(tree)["sinks"][0]["path"] == "a"
    with pytest.raises(SettingsError, match=r"sinks\.7\.path"):
        laid_over(tree, from_settings(["sinks.7.path=c"]))


def test_set_below_a_bare_string_keeps_its_kind():
    tree = from_text('[model]\nforgetting = "half-life"', "f")
    found = plain(laid_over(tree, from_settings(["model.forgetting.events=5"])))
    assert found == {"model": {"forgetting": {"kind": "half-life", "events": 5}}}


def test_environment_values_are_typed_like_set():
    (one,) = from_environment({"STREAM_EM_A__B__C": "[1]"})
    assert (one.path, one.value, one.origin) == (("a", "b", "c"), [1], "env STREAM_EM_A__B__C")


# -- lines and provenance ---------------------------------------------------------------


def test_lines_of_keys():
    text = '# c\n[a]\nb = 1\n"c.d" = 2\n[[s]]\nx = 1\n[[s]]\nx = 2\n[a.e]\nf.g = 3\n'
    found = key_lines(text)
    assert found[("a", "b")] == 3
    assert found[("a", "c.d")] == 4
    assert (found[("s", "0", "x")], found[("s", "1", "x")]) == (6, 8)
    assert found[("a", "e", "f", "g")] == 10


def resolved(path, settings=(), environ=None):
    return as_resolved(merged(path, settings, environ), load(path, settings, environ))


def test_every_effective_value_has_its_provenance(file):
    text = resolved(file(GOOD), ["source.batch_size=50"], {"STREAM_EM_CHECKPOINTS__KEEP": "5"})
    lines = {line.partition(" = ")[0]: line for line in text.splitlines()}
    assert lines["n_components"].endswith("# clusters.toml:11")
    assert lines["forgetting.events"].endswith("# clusters.toml:13")
    assert lines["covariance.kind"].endswith("# clusters.toml:12")
    assert lines["batch_size"].split()[2:] == ["50", "#", "--set"]
    assert lines["keep"].endswith("# env STREAM_EM_CHECKPOINTS__KEEP")
    assert lines["every_seconds"].endswith("# default")
    assert lines["name"].endswith("# default (the file's stem)")
    assert "[metrics]" in lines


def test_the_resolved_text_is_a_configuration_of_the_same_plan(file):
    first = load(file(GOOD))
    text = resolved(file(GOOD))
    second = load(file(text, "resolved.toml"))
    assert (second.engine, second.model, second.schedule) == (
        first.engine,
        first.model,
        first.schedule,
    )
    assert second.source == first.source
    assert [sink.name for sink in second.sinks] == [sink.name for sink in first.sinks]


def test_the_merged_text_is_toml_of_the_merged_values(file):
    tree = merged(file(GOOD), ["model.covariance=full"])
    shown = tomllib.loads(as_merged(tree))
    assert shown == plain(tree)
    assert shown["model"]["covariance"] == "full"


def test_secrets_are_masked_and_files_of_secrets_are_not_read():
    text = """
    [source]
    sasl_password = "hush"
    password_file = "/run/secret"
    key = "id"
    security = { token = "hush", username = "me" }
    [[sinks]]
    api_key = "hush"
    """
    shown = as_merged(from_text(text, "f"))
    assert "hush" not in shown
    assert shown.count(MASK) == 3
    assert "/run/secret" in shown
    assert '"id"' in shown


def test_secrets_are_masked_in_findings_too(file):
    text = GOOD.replace("covariance =", 'covariance = { kind = "full", token = "hush" }\nc =')
    examined = examine(
        merged(file(text), ["model.password='hush'", "source.features.token='hush'"])
    )
    assert examined.plan is None
    assert not any("hush" in finding.message for finding in examined.findings)


def test_values_survive_being_written():
    table = {
        "s": 'quote " back \\ tab \t umlaut ü del \x7f',
        "n": [1, 2.5, True, float("inf")],
        "odd key": {"a": {"b": "c"}},
        "when": tomllib.loads("t = 2024-05-06T07:08:09Z")["t"],
    }
    assert tomllib.loads(written.document({"t": table})) == {"t": table}


# -- [http] -----------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["", "off"])
def test_http_can_be_switched_off(address):
    assert not HttpSettings(address).on


@pytest.mark.parametrize("address", ["9464", ":9464", "host:", "host:http", "host:70000"])
def test_an_address_is_host_and_port(address):
    with pytest.raises(SettingsError, match="host:port"):
        HttpSettings(address)
