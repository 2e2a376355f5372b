"""Modified Bessel functions in the form that directions need, and κ from a mean length.

Throughout, h_ν(x) = I_ν(x)·x^-ν, which is finite and positive at x = 0. With s = √(ν² + x²)
and t = ν/s, Debye's expansion, uniform in x ≥ 0 (Abramowitz & Stegun 9.7.7), reads

    log h_ν(x) = s - ν log(ν + s) - ½ log(2πs) + log Σ_j u_j(t)/ν^j

It is used from order 15 on, where ten terms leave 1e-14; below, the recurrence
h_{ν-1} = x² h_{ν+1} + 2ν h_ν runs downwards, in which nothing cancels.
"""

import math

import numpy as np

from stream_em.arrays import Array

LEAST_ORDER = 15.0
TERMS = 10
NEWTON_STEPS = 3
TIGHTEST = 1e-12  # least 1 - r̄
FLATTEST = 1e-9  # least κ


def _debye() -> Array:
    """Row j: the coefficients of u_j(t)/t^j in powers of t²; A&S 9.3.10.

    u_{j+1} = ½t²(1 - t²)u_j' + ⅛ ∫_0^t (1 - 5τ²) u_j dτ.
    """
    table = np.zeros((TERMS + 1, TERMS + 2))
    table[0, 0] = 1.0
    power = np.arange(0, 2 * TERMS + 2, 2)
    for j in range(TERMS):
        table[j + 1, :-1] = table[j, :-1] * ((j + power) / 2 + 1 / (8 * (j + power + 1)))
        table[j + 1, 1:] -= table[j, :-1] * ((j + power) / 2 + 5 / (8 * (j + power + 3)))
    table.flags.writeable = False
    return table


DEBYE = _debye()


def _log_tail(order: float, s: Array) -> Array:
    """log Σ_j u_j(t)/ν^j, in powers of 1/s because t/ν = 1/s."""
    powers = np.square(order / s)[..., None] ** np.arange(DEBYE.shape[1])
    scales = (1.0 / s)[..., None] ** np.arange(len(DEBYE))
    return np.log(np.einsum("...j,...j->...", scales @ DEBYE, powers))


def _lifted(order: float) -> int:
    """How many orders up the expansion is good enough."""
    return max(0, math.ceil(LEAST_ORDER - order))


def _ratio_at(order: float, x: Array) -> Array:
    """h_{ν+1}/h_ν by the expansion, with the differences taken by hand."""
    s, above = np.hypot(order, x), np.hypot(order + 1, x)
    growth = (2 * order + 1) / (above + s)
    log_ratio = (
        growth
        - np.log(order + 1 + above)
        - order * np.log1p((1 + growth) / (order + s))
        - 0.5 * np.log1p(growth / s)
        + _log_tail(order + 1, above)
        - _log_tail(order, s)
    )
    return np.exp(log_ratio)


def _ratios(order: float, x: Array) -> list[Array]:
    """h_{μ+1}/h_μ for μ from the lifted order down to `order` in steps of one."""
    steps = _lifted(order)
    ratios = [_ratio_at(order + steps, x)]
    for step in range(steps, 0, -1):
        ratios.append(1.0 / (2 * (order + step) + np.square(x) * ratios[-1]))
    return ratios


def log_bessel(order: float, x: Array) -> Array:
    """log(I_ν(x)·x^-ν·e^-x) for an order ν ≥ -½ and x ≥ 0 of any shape.

    >>> exact = np.sqrt(2 / np.pi) * np.sinh(2.0) / 2 * np.exp(-2.0)
    >>> bool(np.isclose(log_bessel(0.5, np.array(2.0)), np.log(exact), rtol=1e-13))
    True
    """
    x = np.asarray(x, dtype=np.float64)
    top = order + _lifted(order)
    s = np.hypot(top, x)
    out = top**2 / (s + x) - top * np.log(top + s) - 0.5 * np.log(2 * math.pi * s)
    out = out + _log_tail(top, s)
    for ratio in _ratios(order, x)[1:]:
        out = out - np.log(ratio)
    return out


def mean_length(D: int, kappa: Array) -> Array:
    """A_D(κ) = I_{D/2}(κ)/I_{D/2-1}(κ), the mean of x·μ under κ."""
    kappa = np.asarray(kappa, dtype=np.float64)
    return kappa * _ratios(D / 2 - 1, kappa)[-1]


def log_normaliser(D: int, kappa: Array) -> Array:
    """log(C_D(κ)·e^κ) in nats: the log density at x = μ on the unit sphere of D features."""
    return -0.5 * D * math.log(2 * math.pi) - log_bessel(D / 2 - 1, kappa)


def concentration(D: int, deficit: Array) -> Array:
    """κ whose mean length A_D(κ) is r̄ = 1 - deficit.

    Starts at r̄(D - r̄²)/(1 - r̄²) (Banerjee et al. 2005), then takes three Newton steps (Sra
    2012), after which it is the maximum of the likelihood to rounding; where κ is so large
    that the slope would be rounding itself, the start is already exact enough.
    """
    deficit = np.clip(deficit, TIGHTEST, 1.0)
    r = 1.0 - deficit
    kappa = np.maximum(r * (D - np.square(r)) / (deficit * (1.0 + r)), FLATTEST)
    fine = kappa < 1e5 * math.sqrt(D)
    for _ in range(NEWTON_STEPS):
        length = mean_length(D, kappa)
        slope = 1.0 - np.square(length) - (D - 1) * length / kappa
        step = (length - r) / np.where(slope > 0, slope, 1.0)
        moved = np.clip(kappa - step, 0.5 * kappa, 2.0 * kappa)
        kappa = np.where(fine & (slope > 0), moved, kappa)
    return np.maximum(kappa, FLATTEST)
