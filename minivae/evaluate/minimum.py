"""The lowest point of a smooth function, by SciPy."""

from collections.abc import Callable

import numpy as np

from ..errors import UsageError

Vector = np.ndarray


def minimum(f: Callable[[Vector], tuple[float, Vector]], x: Vector, tolerance: float = 1e-6) -> tuple[float, Vector]:
    """(value, x) at a local minimum of f, which returns its value and its gradient, by the BFGS rule from x.

    The search ends where no component of the gradient exceeds `tolerance`, or where rounding hides what is left.  It begins with the
    identity as its guess of the Hessian: choose coordinates in which f is about as steep in every direction.  In those it is at most
    about len(x) tolerance^2 / 2 above the minimum.
    """
    try:
        from scipy.optimize import minimize
    except ImportError:
        raise UsageError('this measure searches with SciPy, which is not installed; pip install "minivae[evaluate]"') from None
    found = minimize(f, x, jac=True, method="BFGS", options={"gtol": tolerance})
    return float(found.fun), found.x
