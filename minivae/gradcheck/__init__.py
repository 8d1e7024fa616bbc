"""Is this gradient right, and if not, why: central differences, complex steps, duality; Hessians; a report that a person can read.

print(gradcheck(lambda x: ops.softplus(x).sum(), [np.linspace(-3, 3, 7)]))
print(gradcheck(frozen(elbo, model, x, Stream(0))))
"""

from . import strategies
from .check import assert_gradients, gradcheck
from .report import Report, Row, v_curve
from .second_order import hessian, hessian_vector_product, second_order_check
from .subject import Frozen, FrozenStream, frozen

__all__ = [
    "Frozen",
    "FrozenStream",
    "Report",
    "Row",
    "assert_gradients",
    "frozen",
    "gradcheck",
    "hessian",
    "hessian_vector_product",
    "second_order_check",
    "strategies",
    "v_curve",
]
