"""Births that pay for merges: the background's rows become a component where they gather.

Where the background claims many rows, the largest part of them is fitted by one
component; it is born when what it gains over the background exceeds what the cheapest
merge of two others loses (Runnalls' bound), and it takes its mass from the background.
"""

import numpy as np

from stream_em import moments
from stream_em.arrays import Array, altered
from stream_em.kernels import kernels_in_use
from stream_em.models.protocol import Model
from stream_em.moments import Moments
from stream_em.quarantine import chosen
from stream_em.relocations import House, Move, cheapest, rearranged
from stream_em.seeding import Material, lloyd, plus_plus
from stream_em.state import Frame, Quarantine, Uniform

PARTS = 3  # into which waiting rows are split
LLOYD_STEPS = 10


def birth(
    model: Model,
    house: House,
    uniform: Uniform,
    frame: Frame,
    spread: Array,
    log_density: float,
    price: float,
    draw: np.random.Generator,
    row: int,
) -> tuple[Move, Uniform] | None:
    """One birth, or None when the best found would not pay.

    `spread` (D,) are the variances of all rows; `log_density` is the background's own
    log(w0/V) in nats; `price` is what a component in a free slot has to gain.
    """
    D = len(spread)
    if len(house.aside) < max(50, 3 * D):
        return None
    part = _largest_part(house.aside, spread, draw)
    if part.sum() < max(25, 2 * D):
        return None
    rows = chosen(house.aside, part)
    newcomer = _fitted(model, rows)
    gain = _log_joint(model, house.moments, newcomer, rows, spread) - log_density
    cost, pair = cheapest(model, _steering(house), spread)
    if pair is None:
        cost = price
    if float(rows.weights @ gain) <= cost:
        return None
    mass = float(newcomer.step[0])
    left = chosen(house.aside, ~part)
    move = rearranged(house, frame, newcomer, left, pair, row, "rows the background claimed")
    return move, Uniform(
        max(uniform.step - mass, 0.0), max(uniform.objective - mass, 0.0), uniform.low, uniform.high
    )


def _steering(house: House) -> House:
    """The house with clusters counted by N_step, the weight that steers learning.

    Counted by N_obj the clusters of a regime that has passed would never give way.
    """
    return house._replace(moments=altered(house.moments, objective=house.moments.step))


def _largest_part(aside: Quarantine, spread: Array, draw: np.random.Generator) -> Array:
    """The largest of three parts of the rows, (q,) bool."""
    material = Material(aside.rows, aside.weights, None, spread, np.zeros(len(spread)))
    centres, _ = plus_plus(material, PARTS, draw)
    _, labels = lloyd(material, centres, LLOYD_STEPS)
    return labels == np.bincount(labels).argmax()


def _fitted(model: Model, rows: Quarantine) -> Moments:
    """The rows as one component, each with the share that the background claims."""
    mass = rows.weights * rows.scores
    centre = mass @ rows.rows / mass.sum()
    one = np.ones((len(rows), 1))
    return moments.tally(model.scatter, kernels_in_use(), rows.rows, mass, one, centre[None])


def _log_joint(
    model: Model, held: Moments, newcomer: Moments, rows: Quarantine, spread: Array
) -> Array:
    """log p(z, newcomer) (q,) in nats, were it a component beside the others."""
    beside = model.reread(moments.join(held, newcomer), spread, None).clusters
    expectation = model.e_step(beside, rows.rows)
    assert expectation.log_joint is not None
    return expectation.log_joint[:, -1]
