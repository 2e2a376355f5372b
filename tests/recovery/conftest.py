"""A server with transactions, in memory: what outlives a process, and what a rival fences."""

from dataclasses import dataclass, field
from typing import Any, final

import pytest

from stream_em.errors import Fenced, OutcomeUnknown
from stream_em.streams import Columns, Json, Marker, Sink, Transactions


class Died(BaseException):
    """The process ended here."""


@dataclass
class Ledger:
    """The server: committed rows by output, the marker, and who may write."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    marker: Marker | None = None
    epoch: int = 0
    aborted: int = 0
    commits: list[Marker] = field(default_factory=list)


@final
class LedgerTransactions(Transactions):
    """Transactions on a ledger; `dies` names the window in which the process ends."""

    timeout_seconds = 300.0

    def __init__(self, ledger: Ledger, name: str, dies: str | None, at: int) -> None:
        self.identity = f"ledger {name}"
        self.ledger, self.dies, self.at = ledger, dies, at
        self.pending: dict[str, list[dict[str, Any]]] = {}
        self.epoch = -1

    def open(self) -> Marker | None:
        self._burn("open", 0)
        self.ledger.epoch += 1
        self.epoch = self.ledger.epoch
        self._burn("opened", 0)
        return self.ledger.marker

    def commit(self, marker: Marker, courtesy: object | None) -> bool:
        self._burn("commit", marker.number)
        if self.epoch != self.ledger.epoch:
            raise Fenced("another engine has taken over; stop one of the two")
        for name, rows in self.pending.items():
            self.ledger.rows.setdefault(name, []).extend(rows)
        self.pending = {}
        self.ledger.marker = marker
        self.ledger.commits.append(marker)
        if self.dies == "unknown" and marker.number == self.at:
            raise OutcomeUnknown("no answer to the commit; start again")
        self._burn("committed", marker.number)
        return False

    def abort(self) -> None:
        self.pending = {}
        self.ledger.aborted += 1

    def close(self) -> None:
        """What is open stays open until somebody else opens."""

    def _burn(self, window: str, number: int) -> None:
        if self.dies == window and number >= self.at:
            self.dies = None
            raise Died


@final
class LedgerSink(Sink):
    """An output within the transactions of a ledger."""

    kind = "ledger"
    exactly_once = True
    cluster = "ledger"

    def __init__(
        self, ledger: Ledger, name: str = "out", dies: str | None = None, at: int = 0
    ) -> None:
        self.ledger, self.name, self._dies, self._at = ledger, name, dies, at

    def transactions(self, name: str, every_seconds: float) -> Transactions:
        return LedgerTransactions(self.ledger, name, self._dies, self._at)

    def enlist(self, transactions: Transactions) -> None:
        assert isinstance(transactions, LedgerTransactions)
        self.within = transactions

    def begin(self, incarnation: str, overwrite: bool) -> Json:
        return None

    def roll_back(self, extent: Json, number: int, incarnation: str) -> None:
        """The transaction that was open is gone."""

    def write(self, columns: Columns) -> None:
        lists = [list(column) for column in columns.values()]
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
        self.within.pending.setdefault(self.name, []).extend(rows)

    def barrier(self, number: int) -> Json:
        return None

    def committed(self, number: int) -> None:
        """It was visible already."""

    def close(self) -> None:
        """The transactions are closed by the engine."""


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture(scope="session")
def ledger_sink() -> type[LedgerSink]:
    return LedgerSink


@pytest.fixture(scope="session")
def died() -> type[BaseException]:
    return Died
