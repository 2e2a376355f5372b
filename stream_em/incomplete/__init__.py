"""Rows with missing values: their densities, and what they are expected to add to a tally.

Missing at random: a row's observed part o decides its responsibilities, and its missing
part u enters the tally by expectation, exact for every covariance (Little & Rubin 2002,
§11.3):

    x̂_u = μ_u + Σ_uo Σ_oo⁻¹ (x_o - μ_o)         C_u = Σ_uu - Σ_uo Σ_oo⁻¹ Σ_ou
    Σγ, Σγ x̂, Σγ (x̂ - m)(x̂ - m)ᵀ + Σγ C_u

Without C_u the covariances shrink and EM is no longer monotone. Hard k-means is the
limit C_u = 0, x̂_u = μ_u, with squared distances over the observed features times D/|o|.
"""

from stream_em.incomplete.expecting import expect as expect
from stream_em.incomplete.expecting import tally_expected as tally_expected
from stream_em.incomplete.observed import spread_of as spread_of
from stream_em.incomplete.observed import squared_distance as squared_distance
