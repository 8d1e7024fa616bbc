"""Errors in units in the last place of float32, against a float64 value taken as exact."""

import numpy as np


def ulp(exact):
    """The spacing of float32 numbers at `exact`, 2^-149 among the subnormals."""
    magnitude = np.clip(np.abs(exact), 2.0**-126, 2.0**127)
    return 2.0 ** (np.floor(np.log2(magnitude)) - 23)


def ulps(value, exact):
    """|value - exact| in ulp; 0 where both are NaN or `exact` rounds to the infinity found, infinite where only one is."""
    with np.errstate(all="ignore"):
        same = (value == exact.astype(np.float32)) & np.isinf(value) | np.isnan(value) & np.isnan(exact)
        error = np.abs(value.astype(np.float64) - exact) / ulp(exact)
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
