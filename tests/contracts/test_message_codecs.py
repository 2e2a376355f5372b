"""Codecs of single messages: what was written comes back, and no bad one takes another along."""

import codecs
import io
import json
import math
import struct
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_em.arrays import LARGEST
from stream_em.errors import SettingsError
from stream_em_connectors.codecs import Decoded, Fields
from stream_em_connectors.kafka.codecs import Avro, Codec, Csv, Floats32, Floats64, Json, codec_of

PLAIN = Fields(("x", "y"))
FULL = Fields(("x", "y"), weight="w", time="at", key="id")
SCHEMA = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "x", "type": ["null", "double"]},
        {"name": "y", "type": "double"},
        {"name": "w", "type": ["null", "double", "string"]},
        {"name": "at", "type": ["null", "double", "string"]},
        {"name": "id", "type": ["null", "string", "bytes"]},
    ],
}
singles = st.floats(-(2.0**90), 2.0**90, width=32)
noise = st.binary(min_size=1, max_size=40)


def avro(item: Any, schema: Any = SCHEMA) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, item)
    return stream.getvalue()


@pytest.fixture(scope="module")
def schema_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("schemas") / "reading.avsc"
    path.write_text(json.dumps(SCHEMA))
    return str(path)


@pytest.fixture(scope="module", params=["json", "csv", "floats32", "floats64", "avro"])
def codec(request: pytest.FixtureRequest, schema_file: str) -> Codec:
    return codec_of(
        {"kind": "avro", "schema_file": schema_file} if request.param == "avro" else request.param
    )


def written(codec: Codec, x: float, y: float) -> bytes:
    """A good message of x and y."""
    match codec:
        case Json():
            return json.dumps({"x": x, "y": y, "more": {"x": "é"}}).encode()
        case Csv():
            return f"{x!r},{y!r}".encode()
        case Floats32():
            return struct.pack("<2f", x, y)
        case Floats64():
            return struct.pack("<2d", x, y)
    return avro({"x": x, "y": y, "w": None, "at": None, "id": None})


def complete(found: Decoded, n: int) -> None:
    """Every message came out once."""
    assert sorted([*found.kept.tolist(), *(place for place, _ in found.flaws)]) == list(range(n))
    assert len(found.rows) == len(found.kept)
    assert np.all(np.abs(found.rows) <= LARGEST)


@given(rows=st.lists(st.tuples(singles, singles), max_size=30))
def test_what_was_written_comes_back(codec: Codec, rows: list[tuple[float, float]]) -> None:
    found = codec.decoder(PLAIN)([written(codec, *row) for row in rows])
    assert found.flaws == ()
    assert found.rows.tolist() == [list(row) for row in rows]
    assert found.rows.shape == (len(rows), 2)


@given(parts=st.lists(st.one_of(noise, st.tuples(singles, singles)), max_size=20))
@example(parts=[b"\x00", codecs.BOM_UTF8])
@example(parts=[b"0,", codecs.BOM_UTF8 + b"1,2"])
def test_a_bad_message_takes_no_other_with_it(codec: Codec, parts: list[Any]) -> None:
    decode = codec.decoder(PLAIN)
    messages = [part if isinstance(part, bytes) else written(codec, *part) for part in parts]
    found = decode(messages)
    complete(found, len(messages))
    for place, message in enumerate(messages):
        alone = decode([message])
        if len(alone.rows):
            assert found.rows[found.kept.tolist().index(place)].tolist() == alone.rows[0].tolist()
        else:
            assert dict(found.flaws)[place].reason == alone.flaws[0][1].reason
    good = [place for place, part in enumerate(parts) if not isinstance(part, bytes)]
    assert set(good) <= set(found.kept.tolist())


@given(codec_of_cells=st.lists(st.lists(st.text('1,"\n\r;x', max_size=6), max_size=3), max_size=8))
def test_no_csv_message_reaches_into_the_next(codec_of_cells: list[list[str]]) -> None:
    decode = Csv().decoder(PLAIN)
    messages = [",".join(cells).encode() or b"1,2" for cells in codec_of_cells]
    found = decode([*messages, b"3,4"])
    complete(found, len(messages) + 1)
    assert len(messages) in found.kept.tolist()
    assert found.rows[-1].tolist() == [3, 4]
    for place, message in enumerate(messages):
        alone = decode([message])
        assert (place in found.kept.tolist()) == bool(len(alone.rows))


CSV_FLAWS = {
    b"": "empty",
    b"   ": "empty",
    b"1": "schema",
    b"1,2,3": "schema",
    b"1,2\n3,4": "schema",
    b"1,2\r3,4": "schema",
    b'1,"2': "decode_error",
    b"1,\xff": "decode_error",
    b"1,two": "decode_error",
    b"1,": "missing_feature",
    b"1,NA": "missing_feature",
    b"1,inf": "non_finite",
    b"1,1e101": "too_large",
}


@pytest.mark.parametrize(("message", "reason"), CSV_FLAWS.items())
def test_a_flaw_of_a_csv_message_has_its_reason(message: bytes, reason: str) -> None:
    found = Csv().decoder(PLAIN)([b"1,2", message, b"3,4\r\n"])
    assert [flaw.reason for _, flaw in found.flaws] == [reason]
    assert found.rows.tolist() == [[1, 2], [3, 4]]


def test_csv_columns_are_named_in_their_order() -> None:
    codec = Csv(columns=["id", "y", "note", "w", "x", "at"], delimiter=";", decimal=",")
    found = codec.decoder(FULL)([b'a;1,5;"two; words";2;3;1970-01-01T00:00:09Z'])
    assert found.rows.tolist() == [[3, 1.5]]
    assert (found.weights.tolist(), found.times.tolist(), found.keys) == ([2], [9], ("a",))


def test_columns_default_to_features_then_weight_time_and_key() -> None:
    found = Csv().decoder(FULL)([b"1,2,0.5,9,k"])
    assert found.rows.tolist() == [[1, 2]]
    assert (found.weights.tolist(), found.times.tolist(), found.keys) == ([0.5], [9], ("k",))
    doubles = Floats64().decoder(FULL)([struct.pack("<5d", 1, 2, 0.5, 9, 7)])
    assert doubles.rows.tolist() == [[1, 2]]
    assert (doubles.weights.tolist(), doubles.times.tolist(), doubles.keys) == ([0.5], [9], (7.0,))


@pytest.mark.parametrize("codec", [Csv(columns=["x", "z"]), Floats32(columns=["x", "z"])])
def test_a_field_that_is_no_column_is_refused(codec: Codec) -> None:
    with pytest.raises(SettingsError, match="'y' is not among the codec's columns: x, z"):
        codec.decoder(PLAIN)


@pytest.mark.parametrize("codec", [Floats32(), Floats64()])
def test_a_flaw_of_floats_has_its_reason(codec: Codec) -> None:
    size = "f" if isinstance(codec, Floats32) else "d"

    def packed(*values: float) -> bytes:
        return struct.pack(f"<{len(values)}{size}", *values)

    messages = [
        packed(1, 2),
        packed(1),
        packed(1, 2, 3),
        packed(1, math.nan),
        packed(math.inf, 1),
        b"x",
    ]
    found = codec.decoder(PLAIN)(messages)
    assert found.rows.tolist() == [[1, 2]]
    reasons = [flaw.reason for _, flaw in found.flaws]
    assert reasons == ["schema", "schema", "non_finite", "non_finite", "schema"]
    assert [flaw.field for _, flaw in found.flaws][2:4] == ["y", "x"]


def test_floats_beyond_the_largest_are_too_large() -> None:
    found = Floats64().decoder(PLAIN)([struct.pack("<2d", 1e200, 0)])
    assert found.flaws[0][1].reason == "too_large"


def test_a_weight_among_floats_is_judged_as_one() -> None:
    decode = Floats64().decoder(Fields(("x",), weight="w"))
    found = decode([struct.pack("<2d", 1, w) for w in (1, -1, math.nan, math.inf)])
    assert found.rows.tolist() == [[1]]
    assert {flaw.reason for _, flaw in found.flaws} == {"weight"}


def test_nan_among_floats_may_be_missing() -> None:
    fields = Fields(("x", "y"), missing=True)
    found = Floats64().decoder(fields)(
        [struct.pack("<2d", 1, math.nan), struct.pack("<2d", 1, math.inf)]
    )
    assert np.isnan(found.rows[0, 1])
    assert [flaw.reason for _, flaw in found.flaws] == ["non_finite"]


def test_json_reads_dotted_paths() -> None:
    fields = Fields(("t", "engine.pressure"), time="at.sent", key="who.id")
    record = {
        "t": 1,
        "engine": {"pressure": 2},
        "at": {"sent": "1970-01-01T00:01Z"},
        "who": {"id": "k"},
    }
    found = Json().decoder(fields)([json.dumps(record).encode(), b'{"t": 1, "engine": {}}'])
    assert found.rows.tolist() == [[1, 2]]
    assert (found.times.tolist(), found.keys) == ([60], ("k",))
    assert found.flaws[0][1][:2] == ("missing_feature", "engine.pressure")


class TestAvro:
    def test_all_fields_come_back(self, schema_file: str) -> None:
        decode = Avro(schema_file).decoder(FULL)
        found = decode(
            [
                avro({"x": 1.5, "y": 2.0, "w": 0.5, "at": 9.0, "id": "a"}),
                avro({"x": 1.5, "y": 2.0, "w": 2.0, "at": "1970-01-01T00:01Z", "id": None}),
                avro({"x": 1.5, "y": 2.0, "w": 2.0, "at": None, "id": b"\xff"}),
            ]
        )
        assert found.flaws == ()
        assert found.weights.tolist() == [0.5, 2, 2]
        assert found.times.tolist()[:2] == [9, 60]
        assert np.isnan(found.times[2])
        assert found.keys == ("a", None, str(b"\xff"))

    def test_a_flaw_has_its_reason(self, schema_file: str) -> None:
        good = {"x": 1.0, "y": 2.0, "w": 1.0, "at": 1.0, "id": "k"}
        cases = [
            (avro(good | {"x": None}), "missing_feature", "x"),
            (avro(good | {"y": math.nan}), "non_finite", "y"),
            (avro(good | {"y": 1e200}), "too_large", "y"),
            (avro(good | {"w": None}), "weight", "w"),
            (avro(good | {"w": "one"}), "weight", "w"),
            (avro(good | {"w": -1.0}), "weight", "w"),
            (avro(good | {"at": "noon"}), "decode_error", "at"),
            (avro(good)[:-1], "decode_error", None),
            (avro(good) + b"x", "decode_error", None),
            (b"\x0c", "decode_error", None),
        ]
        found = Avro(schema_file).decoder(FULL)([avro(good), *(case[0] for case in cases)])
        assert found.rows.tolist() == [[1, 2]]
        assert [flaw[:2] for _, flaw in found.flaws] == [case[1:] for case in cases]

    def test_a_path_names_something_at_every_step(self, schema_file: str) -> None:
        with pytest.raises(SettingsError, match=r"'x\.' has an empty part"):
            Avro(schema_file).decoder(Fields(("x.",)))

    def test_missing_values_may_be_learned(self, schema_file: str) -> None:
        record = avro({"x": None, "y": 2.0, "w": None, "at": None, "id": None})
        found = Avro(schema_file).decoder(Fields(("x", "y"), missing=True))([record])
        assert np.isnan(found.rows[0, 0])

    def test_logical_types_are_numbers_and_times(self, tmp_path: Path) -> None:
        schema = {
            "type": "record",
            "name": "R",
            "fields": [
                {
                    "name": "inner",
                    "type": {
                        "type": "record",
                        "name": "I",
                        "fields": [
                            {
                                "name": "price",
                                "type": {
                                    "type": "bytes",
                                    "logicalType": "decimal",
                                    "precision": 6,
                                    "scale": 2,
                                },
                            },
                        ],
                    },
                },
                {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            ],
        }
        path = tmp_path / "r.avsc"
        path.write_text(json.dumps(schema))
        moment = datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
        record = avro({"inner": {"price": Decimal("12.25")}, "at": moment}, schema)
        found = Avro(str(path)).decoder(Fields(("inner.price",), time="at"))([record])
        assert (found.rows.tolist(), found.times.tolist()) == ([[12.25]], [5])

    def test_the_wire_header_is_read_and_compared(self, schema_file: str) -> None:
        body = avro({"x": 1.0, "y": 2.0, "w": None, "at": None, "id": None})
        messages = [b"\0\0\0\0\x07" + body, b"\0\0\0\0\x08" + body, b"\1\0\0\0\x07" + body, b"\0\0"]
        found = Avro(schema_file, wire_format=True, schema_id=7).decoder(PLAIN)(messages)
        assert found.rows.tolist() == [[1, 2]]
        assert [flaw.reason for _, flaw in found.flaws] == [
            "schema",
            "decode_error",
            "decode_error",
        ]
        assert len(Avro(schema_file, wire_format=True).decoder(PLAIN)(messages).rows) == 2

    def test_a_field_that_is_not_in_the_schema_is_refused(self, schema_file: str) -> None:
        with pytest.raises(SettingsError, match="'z' is not in the Avro schema"):
            Avro(schema_file).decoder(Fields(("z",)))

    @pytest.mark.parametrize("text", ["no json", '"string"', '{"type": "nonsense"}'])
    def test_a_file_that_is_no_schema_of_records_is_refused(
        self, tmp_path: Path, text: str
    ) -> None:
        path = tmp_path / "bad.avsc"
        path.write_text(text)
        with pytest.raises(SettingsError, match="schema"):
            Avro(str(path)).decoder(PLAIN)

    def test_without_its_package_the_extra_is_named(
        self, schema_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "fastavro", None)
        with pytest.raises(SettingsError, match=r"stream-em\[avro\]"):
            Avro(schema_file).decoder(PLAIN)

    def test_its_identity_is_the_schema_not_the_file(
        self, schema_file: str, tmp_path: Path
    ) -> None:
        moved = tmp_path / "moved.avsc"
        moved.write_text(Path(schema_file).read_text())
        assert Avro(str(moved)).identity() == Avro(schema_file).identity()


@pytest.mark.parametrize(
    "said",
    [
        "protobuf",
        {"delimiter": ";"},
        {"kind": "csv", "delimeter": ";"},
        {"kind": "csv", "decimal": ","},
        7,
        {"kind": "csv", "encoding": "utf-16"},
        {"kind": "avro"},
    ],
)
def test_a_codec_that_is_none_is_refused(said: Any) -> None:
    with pytest.raises(SettingsError):
        codec_of(said)
