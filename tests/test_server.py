"""The web server: health and metrics over real sockets on loopback."""

import http.client
import json
import signal
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

import stream_em as se
from stream_em.errors import SettingsError, Unreachable
from stream_em.metrics.meter import Meter
from stream_em.server import serve


@pytest.fixture
def meter():
    return Meter(se.KMeans(2))


@pytest.fixture
def open_server(meter):
    """Starts servers on free ports and closes them afterwards."""
    started = []

    def start(address="127.0.0.1:0", **settings):
        started.append(serve(meter, address, **settings))
        return started[-1]

    yield start
    for server in started:
        server.close()


def ask(server, path, method="GET", **headers):
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=5)
    try:
        connection.request(
            method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def readiness(server):
    status, _, body = ask(server, "/readyz")
    return status, json.loads(body)["failing"]


def test_metrics_as_the_scraper_negotiates(open_server):
    server = open_server()
    status, headers, body = ask(server, "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "stream_em_events_total 0.0" in body
    assert "python_info" in body
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    _, headers, body = ask(server, "/metrics", Accept=accept)
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith("# EOF\n")


def test_a_life(meter, open_server):
    server = open_server()
    assert readiness(server) == (503, ["restored", "input connected"])
    meter.state("restoring")
    meter.input(connected=True)
    assert readiness(server) == (503, ["restored"])
    meter.state("running")
    assert readiness(server) == (200, [])
    meter.state("draining")
    assert readiness(server) == (503, ["not draining"])
    assert ask(server, "/livez")[0] == 200
    meter.state("failed")
    assert readiness(server) == (503, ["not failed"])


def test_a_lost_input_is_not_ready_but_alive(meter, open_server):
    server = open_server()
    meter.state("running")
    meter.input(connected=False)
    meter.idle(0.1)
    assert readiness(server) == (503, ["input connected"])
    assert ask(server, "/livez")[0] == 200


def test_a_loop_that_stands_still_is_not_alive(meter, open_server):
    server = open_server(stall_seconds=30.0)
    meter.beat_at = time.monotonic() - 31.0
    status, _, body = ask(server, "/livez")
    assert (status, body) == (503, "the learning loop stands still for 31 s\n")
    meter.beat()
    assert ask(server, "/livez")[0] == 200


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/nothing"])
def test_every_answer_says_nosniff(open_server, path):
    assert ask(open_server(), path)[1]["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_but_reading(open_server, method):
    server = open_server()
    assert {ask(server, path, method)[0] for path in ("/metrics", "/livez", "/readyz")} == {405}


def test_foreign_hosts_are_refused_on_loopback(open_server):
    server = open_server()
    assert ask(server, "/metrics", Host="evil.example:80")[0] == 400
    assert ask(server, "/metrics", Host="localhost:80")[0] == 200


def test_everybody_is_served_where_the_configuration_says_so(open_server):
    server = open_server("0.0.0.0:0")
    assert ask(server, "/metrics", Host="engine-0.example:9464")[0] == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6_loopback(open_server):
    try:
        server = open_server("[::1]:0")
    except Unreachable:
        pytest.skip("no IPv6 loopback address")
    assert server.url.startswith("http://[::1]:")
    assert ask(server, "/livez")[0] == 200


def test_any_free_port_is_logged(open_server, caplog):
    caplog.set_level("INFO", logger="stream_em")
    server = open_server()
    assert urlsplit(server.url).port > 0
    assert server.url in caplog.text


def test_a_taken_port_says_what_to_do(open_server):
    address = urlsplit(open_server().url).netloc
    with pytest.raises(
        Unreachable, match=rf"cannot listen on {address} .*\[http\] address"
    ) as error:
        open_server(address)
    assert error.value.exit_code == 3


@pytest.mark.parametrize("address", ["9464", ":9464", "localhost", "127.0.0.1:http", "h:70000"])
def test_an_address_that_is_none(open_server, address):
    with pytest.raises(SettingsError, match="expected host:port"):
        open_server(address)


def test_closing_frees_the_port_and_may_be_repeated(meter, open_server):
    server = open_server()
    address = urlsplit(server.url).netloc
    ask(server, "/livez")
    server.close()
    server.close()
    assert not [t for t in threading.enumerate() if t.name == "stream-em-http"]
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the system says
        ask(server, "/livez")
    assert ask(open_server(address), "/livez")[0] == 200


def test_an_open_connection_does_not_hold_up_closing(open_server):
    server = open_server()
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port)) as idle:
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")  # never ends its request
        server.close()
        assert not [t for t in threading.enumerate() if t.name == "stream-em-http"]


def test_signal_handlers_stay_as_they_were(open_server):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    ask(open_server(), "/livez")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
