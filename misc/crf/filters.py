"""The two filters of a dense CRF."""

from typing import NamedTuple


class Filters(NamedTuple):
    """Standard deviations in pixels and steps of 255, and the weights of the two Potts potentials.

    Source: Krähenbühl & Koltun, NeurIPS 2011, equation 3, with one standard deviation for both directions.
    """

    gaussian_sxy: float
    gaussian_compat: float
    sxy: float
    srgb: float
    compat: float
