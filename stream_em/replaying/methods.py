"""How a sweep goes through the chunks: one class for each way."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

from stream_em.arrays import Array
from stream_em.errors import SettingsError
from stream_em.models.protocol import Model
from stream_em.models.settings import at_least
from stream_em.replaying.bounds import bound
from stream_em.replaying.linear import Linear, combined, linear, memo_of
from stream_em.replaying.memos import Memo, Tree, leaf_of, placed, planted, root
from stream_em.replaying.starting import read_off
from stream_em.replaying.visiting import visited
from stream_em.state import Held, State

HALVINGS = 4  # of a step that leads to no valid clusters, before it is passed over


class Problem(NamedTuple):
    """What stays fixed during a replay."""

    model: Model
    spread: Array  # (D,) the variance v of the prior
    columns: Array  # (K,)
    chunks: Callable[[], Iterator[Iterator[Held]]]  # the rows of each memo, one sweep of them
    tell: Callable[[int, float], None]  # called after each visit: chunk, bound


class Standing(NamedTuple):
    """How far a replay has come."""

    state: State  # its clusters are θ; its moments the tally they were read off
    tree: Tree
    bound: float  # the penalised F of all rows, -J for k-means
    passes: int  # times that all rows were assigned
    refused: int  # steps halved, passed over or undone by a guard
    repairs: int  # numerical repairs of covariances


class Method(ABC):
    """A way to sweep. Subclasses are final and hold settings only."""

    kind: ClassVar[str]

    @abstractmethod
    def sweep(self, problem: Problem, standing: Standing) -> Standing:
        """The standing after one more sweep; its bound is never lower."""


@final
@dataclass(frozen=True)
class Incremental(Method):
    """An M-step after every chunk (Neal & Hinton 1998). F never falls, from visit to visit."""

    kind: ClassVar[str] = "incremental"

    def sweep(self, problem: Problem, standing: Standing) -> Standing:
        """Visit each chunk once: a new memo for the old one, then the clusters anew."""
        for leaf, pieces in enumerate(problem.chunks()):
            memo = visited(problem.model, standing.state, problem.columns, pieces)
            standing = raised(problem, standing, placed(standing.tree, leaf, memo))
            problem.tell(leaf, standing.bound)
        return standing._replace(passes=standing.passes + 1)


@final
@dataclass(frozen=True)
class VarianceReduced(Method):
    """Stochastic EM with variance reduction (sEM-vr: Chen, Zhu, Teh & Zhang, NeurIPS 2018).

    s ← (1-ρ)s + ρ(S + (W/w_B)(s_B(θ) - S_B)) for each chunk B, with the memos S_B and their
    sum S of the last full assignment; then all rows are assigned anew. A sweep takes two
    passes and goes much further near the end. It is not a convex combination: a step to a
    negative weight or an indefinite covariance is halved, at last passed over, and a
    whole sweep that lowers F is undone for an incremental one. All of these are counted.
    """

    rho: float = 0.5
    kind: ClassVar[str] = "variance-reduced"

    def __post_init__(self) -> None:
        at_least(self.rho, 0, "rho")
        if not 0 < self.rho <= 1:
            raise SettingsError(f"rho is {self.rho!r}, expected above 0 and at most 1")

    def sweep(self, problem: Problem, standing: Standing) -> Standing:
        """Steps with variance reduction, then a full assignment; undone if F fell."""
        walked = self._walked(problem, standing)
        found = assigned(problem, walked)
        if found.bound >= standing.bound:
            return found
        back = standing._replace(
            passes=found.passes, refused=found.refused + 1, repairs=found.repairs
        )
        return Incremental().sweep(problem, back)

    def _walked(self, problem: Problem, standing: Standing) -> Standing:
        state, whole = standing.state, root(standing.tree)
        assert state.clusters is not None
        anchor = state.clusters.means
        full = held = linear(whole, anchor)
        refused = standing.refused
        for leaf, pieces in enumerate(problem.chunks()):
            before = leaf_of(standing.tree, leaf)
            if before.weight <= 0:
                continue
            met = visited(problem.model, state, problem.columns, pieces)
            scale = whole.weight / before.weight
            change = combined((scale, linear(met, anchor)), (-scale, linear(before, anchor)))
            target = combined((1.0, full), (1.0, change))
            state, held, halvings = self._stepped(problem, state, held, target, anchor, whole)
            refused += halvings
            problem.tell(leaf, standing.bound)
        return standing._replace(state=state, passes=standing.passes + 1, refused=refused)

    def _stepped(
        self,
        problem: Problem,
        state: State,
        held: Linear,
        target: Linear,
        anchor: Array,
        whole: Memo,
    ) -> tuple[State, Linear, int]:
        """A step towards `target`, halved while it leads to no valid clusters."""
        rho = self.rho
        for halvings in range(HALVINGS + 1):
            tried = combined((1 - rho, held), (rho, target))
            memo = memo_of(tried, anchor, whole)
            if memo is not None:
                found, repairs = read_off(problem.model, state, problem.spread, memo)
                if repairs == 0:
                    return found, tried, halvings
            rho /= 2
        return state, held, HALVINGS + 1


def assigned(problem: Problem, standing: Standing) -> Standing:
    """All rows assigned under the same clusters, then an M-step: one batch iteration."""
    memos = []
    for leaf, pieces in enumerate(problem.chunks()):
        memos.append(visited(problem.model, standing.state, problem.columns, pieces))
        problem.tell(leaf, standing.bound)
    found = raised(problem, standing, planted(memos))
    return found._replace(passes=standing.passes + 1)


def raised(problem: Problem, standing: Standing, tree: Tree) -> Standing:
    """The M-step on a tree's root; clusters that would lower F are not taken.

    They never are but for numerical repairs and the last digit, so F is monotone
    without exception.
    """
    memo, model, spread = root(tree), problem.model, problem.spread
    found, repairs = read_off(model, standing.state, spread, memo)
    before = bound(model, standing.state, spread, memo)
    after = bound(model, found, spread, memo)
    if not after >= before:
        found, after = standing.state, before
    return standing._replace(
        state=found, tree=tree, bound=after, repairs=standing.repairs + repairs
    )


def at_rest(state: State, passes: int) -> Standing:
    """The standing before any row was assigned."""
    return Standing(state, (), float("nan"), passes, 0, 0)
