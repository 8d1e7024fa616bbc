"""A plain function on arrays and the gradient that somebody wrote for it, as a function of Tensors that gradcheck can ask."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import Array
from ..engine import Tensor, made_by, stop_gradient
from ..errors import ShapeError


def hand_written(f: Callable[..., Any], gradient: Callable[..., Any]) -> Callable[..., Tensor]:
    """f with that gradient, on Tensors.

    f           arrays -> a number or an array
    gradient    arrays -> the gradient for each floating input, in their order: an array if there is one, else a sequence.  Where f returns
                an array, gradient(*arrays, u) is that of <u, f>, the vector-Jacobian product
    """
    name = getattr(f, "__name__", type(f).__name__)

    def call(*inputs: Any) -> Tensor:
        arrays = [t.data if isinstance(t, Tensor) else t for t in inputs]
        variables = tuple(t for t in inputs if isinstance(t, Tensor) and t.number)
        try:
            value = np.asarray(f(*arrays))
        except (TypeError, ValueError):
            if not any(a.dtype.kind == "c" for a in arrays if hasattr(a, "dtype")):
                raise
            # f takes no complex numbers: its value at the real parts says so to whoever asked
            value = np.asarray(f(*(a.real if hasattr(a, "dtype") else a for a in arrays)))
        if value.dtype.kind not in "fciu":
            raise ShapeError(f"gradcheck: {name} returned {value.dtype}; need a number or an array of numbers")

        def vjp(g: Array) -> tuple[Array, ...]:
            found = gradient(*arrays) if value.size == 1 else gradient(*arrays, g)
            parts = tuple(found) if isinstance(found, tuple | list) else (found,)
            if len(parts) != len(variables):
                raise ShapeError(
                    f"gradcheck: the gradient of {name} is {len(parts)} arrays; need {len(variables)}, one for each floating input"
                )
            scale = g.reshape(()) if value.size == 1 else 1.0
            return tuple(np.asarray(part) * scale for part in parts)

        return made_by(name, value, vjp, variables) if variables else stop_gradient(value)

    call.__name__ = name
    return call
