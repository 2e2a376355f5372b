"""Sections that hold nothing but settings: [engine], [http] and [metrics]."""

import re
from dataclasses import dataclass

from stream_em.errors import SettingsError

PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
DETAILS = ("auto", "full", "summary", "off")


@dataclass(frozen=True)
class EngineSettings:
    """[engine]: what belongs to the run as a whole."""

    name: str  # default: the stem of the configuration file
    seed: int = 0  # of everything random
    instance_id: str | None = None  # of one of several engines that share a configuration
    shutdown_timeout_seconds: float = 30.0  # for draining after SIGTERM or SIGINT

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise SettingsError("name is empty; give the engine a name, or leave the key out")
        if self.instance_id is not None and not PLAIN.fullmatch(self.instance_id):
            raise SettingsError(
                f"instance_id is {self.instance_id!r}, expected a name of letters, digits, "
                "dots, dashes and underscores: it names a folder and a group member"
            )
        if not 0 <= self.seed < 2**63:
            raise SettingsError(f"seed is {self.seed}, expected a number from 0 to 2**63 - 1")
        if not self.shutdown_timeout_seconds > 0:
            raise SettingsError(
                f"shutdown_timeout_seconds is {self.shutdown_timeout_seconds:g}, "
                "expected more than 0 seconds; 30 is the default"
            )


@dataclass(frozen=True)
class HttpSettings:
    """[http]: where /metrics, /livez and /readyz are served.

    >>> HttpSettings("[::1]:9464").on, HttpSettings("off").on
    (True, False)
    """

    address: str = "127.0.0.1:9464"  # port 0: any free one; "" or "off": not served

    def __post_init__(self) -> None:
        if not self.on:
            return
        host, colon, port = self.address.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise SettingsError(
                f"address is {self.address!r}, expected host:port such as 127.0.0.1:9464; "
                'port 0 takes any free one, "off" serves nothing'
            )

    @property
    def on(self) -> bool:
        """Whether anything is served at all."""
        return self.address not in ("", "off")


@dataclass(frozen=True)
class MetricsSettings:
    """[metrics]: how much is told of each cluster."""

    cluster_detail: str = "auto"  # auto: full up to 64 clusters, a summary above

    def __post_init__(self) -> None:
        if self.cluster_detail not in DETAILS:
            raise SettingsError(
                f"cluster_detail is {self.cluster_detail!r}, expected one of: {', '.join(DETAILS)}"
            )
