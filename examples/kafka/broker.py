"""A real Apache Kafka broker for tests, benchmarks and demos, from the jars of Maven Central.

One KRaft node on free ports of 127.0.0.1, with its data in a temporary folder. It needs Java
17 and Maven, and nothing of Python beyond the standard library::

    python examples/kafka/broker.py --port 9092        # until Ctrl-C

The jars (43 MB) are fetched once, to `$STREAM_EM_KAFKA_LIBS` or `~/.cache/stream-em`.
"""

import argparse
import base64
import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

KAFKA = "4.1.0"
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-libs</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
    <dependency><groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
JAVA = (
    *("java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.threads": "1",
    # One node holds every copy there is.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Nobody waits for company, and what is done now and then is done soon.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "4000",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "log.cleaner.backoff.ms": "200",
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "500",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}
SECURED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS;User:engine",  # ANONYMOUS: whoever uses the plain listener
    "sasl.enabled.mechanisms": "SCRAM-SHA-512",
}
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class Secured(NamedTuple):
    """How to reach the listener with TLS and SASL/SCRAM-SHA-512."""

    bootstrap: str
    ca_file: Path  # PEM
    username: str  # may do everything
    password: str
    reader: str  # may do only what access lists allow: nothing at first
    reader_password: str


def libraries() -> Path:
    """The folder of the jars, fetched there if need be."""
    named = os.environ.get("STREAM_EM_KAFKA_LIBS")
    folder = Path(named) if named else Path.home() / ".cache" / "stream-em" / f"kafka-{KAFKA}"
    if not any(folder.glob("kafka_*.jar")):
        _fetch(folder)
    return folder


def available() -> str | None:
    """Why no broker can be started here; None when one can."""
    if shutil.which("java") is None:
        return "there is no java on the path; install Java 17 or later"
    if shutil.which("mvn") is None and "STREAM_EM_KAFKA_LIBS" not in os.environ:
        return "there is no mvn on the path to fetch Kafka with; install Maven"
    return None


class Broker:
    """One broker; as a context manager it starts, and in the end stops and removes its data.

    >>> with Broker() as broker:                                     # doctest: +SKIP
    ...     connect(broker.bootstrap)
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        secure: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stream-em-kafka-"))
        self.port, controller, guarded = (port or free_port(), free_port(), free_port())
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.log = self.folder / "broker.log"
        self.secured = _secured(self.folder, guarded) if secure else None
        self._process: subprocess.Popen[bytes] | None = None
        listeners = {"PLAINTEXT": self.port, "CONTROLLER": controller}
        if self.secured:
            listeners["SASL_SSL"] = guarded
        places = _properties(self.folder, listeners, secure)
        _write(self.folder / "server.properties", {**SETTINGS, **places, **(settings or {})})
        self._format()

    @property
    def pid(self) -> int | None:
        """The process id; None when it does not run."""
        return self._process.pid if self._process else None

    def start(self, seconds: float = 60.0) -> Self:
        """Start on the same ports and data as ever, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("kafka.Kafka", "server.properties"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                preexec_fn=_die_with_parent,
            )
        deadline = time.monotonic() + seconds
        while not answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the broker did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)
        return self

    def stop(self, seconds: float = 15.0) -> None:
        """Stop it in good order, or kill it when that takes too long. The data stay."""
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """Kill it, as a power cut would. The data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop and start, on the same ports and data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing, until `thaw`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = ["format", "-t", cluster.replace("-", "A"), "-c", "server.properties"]
        if self.secured:
            for name, password in (
                (self.secured.username, self.secured.password),
                (self.secured.reader, self.secured.reader_password),
            ):
                user = f"SCRAM-SHA-512=[name={name},password={password}]"
                command += ["--add-scram", user]
        _run(self._command("kafka.tools.StorageTool", *command), self.folder)

    def _command(self, main: str, *arguments: str) -> list[str]:
        return [*JAVA, "-cp", f"{libraries()}/*", main, *arguments]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    """Whether a broker there answers a request; it listens some time before it does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(API_VERSIONS)
            return len(connection.recv(4)) == 4
    except OSError:
        return False


def _die_with_parent() -> None:
    """On Linux no broker outlives the thread that started it, even one killed by force."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _properties(folder: Path, listeners: Mapping[str, int], secure: bool) -> dict[str, str]:
    addresses = {name: f"{name}://127.0.0.1:{port}" for name, port in listeners.items()}
    protocols = {**dict.fromkeys(listeners, "PLAINTEXT"), "SASL_SSL": "SASL_SSL"}
    places = {
        "controller.quorum.voters": f"1@127.0.0.1:{listeners['CONTROLLER']}",
        "listeners": ",".join(addresses.values()),
        "advertised.listeners": ",".join(
            address for name, address in addresses.items() if name != "CONTROLLER"
        ),
        "listener.security.protocol.map": ",".join(
            f"{name}:{protocol}" for name, protocol in protocols.items()
        ),
        "log.dirs": str(folder / "data"),
    }
    if not secure:
        return places
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    return {
        **places,
        **SECURED,
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(folder / "keys.p12"),
        "ssl.keystore.password": (folder / "keys.password").read_text(),
    }


def _secured(folder: Path, port: int) -> Secured:
    """A self-signed certificate for 127.0.0.1, and two users."""
    password = secrets.token_hex(16)
    (folder / "keys.password").write_text(password)
    store = ("-keystore", "keys.p12", "-storepass:file", "keys.password", "-alias", "broker")
    names = ("-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1")
    usage = ("-ext", "bc:critical=ca:true", "-ext", "ku=keyCertSign,digitalSignature")
    pair = ("-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30")
    _run(["keytool", *pair, *store, "-storetype", "PKCS12", *names, *usage], folder)
    _run(["keytool", "-exportcert", "-rfc", *store, "-file", "ca.pem"], folder)
    return Secured(
        *(f"127.0.0.1:{port}", folder / "ca.pem"),
        *("engine", secrets.token_hex(12)),
        *("reader", secrets.token_hex(12)),
    )


def _fetch(folder: Path) -> None:
    """Copy to a folder beside, and rename: two that fetch at once do not disturb each other."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        Path(beside, "pom.xml").write_text(POM)
        _run(["mvn", "-q", "-B", COPY, "-DoutputDirectory=libs"], Path(beside))
        with contextlib.suppress(OSError):
            Path(beside, "libs").rename(folder)


def _write(path: Path, settings: Mapping[str, str]) -> None:
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


def _run(command: list[str], folder: Path) -> None:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}")


def _leave(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # said once is enough; what follows cleans up
    sys.exit(0)


def main() -> None:
    """Run one broker until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Run one Kafka broker on this machine.")
    parser.add_argument("--port", type=int, default=9092)
    chosen = parser.parse_args()
    if reason := available():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, _leave)
    with contextlib.suppress(KeyboardInterrupt), Broker(chosen.port) as broker:
        sys.stdout.write(f"Kafka {KAFKA} listens on {broker.bootstrap}; Ctrl-C stops it\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    main()
