"""Every differentiable function, and the operators of Tensor.

`Op.registry` lists them by name.  The reference forward and vjp of each stand in this folder, one file a family.
"""

from typing import Any

from ..engine import Tensor
from .activations import elu, leaky_relu, log_softmax, relu, sigmoid, silu, softmax, softplus, tanh
from .arithmetic import (
    absolute,
    add,
    divide,
    exp,
    expm1,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    sqrt,
    square,
    subtract,
    where,
)
from .conv import conv2d, conv_transpose2d
from .dense import dense, matmul
from .densities import (
    bernoulli_log_prob,
    continuous_bernoulli_log_normalizer,
    exp_remainder,
    gaussian_kl_standard,
    gaussian_log_prob,
    reparameterize,
)
from .normalization import batch_norm, dropout, layer_norm
from .reductions import logsumexp, max, mean, min, sum
from .shapes import broadcast_to, concatenate, getitem, pad, reshape, split, transpose

__all__ = [
    "absolute",
    "add",
    "batch_norm",
    "bernoulli_log_prob",
    "broadcast_to",
    "concatenate",
    "continuous_bernoulli_log_normalizer",
    "conv2d",
    "conv_transpose2d",
    "dense",
    "divide",
    "dropout",
    "elu",
    "exp",
    "exp_remainder",
    "expm1",
    "gaussian_kl_standard",
    "gaussian_log_prob",
    "getitem",
    "layer_norm",
    "leaky_relu",
    "log",
    "log1p",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "multiply",
    "negative",
    "pad",
    "power",
    "relu",
    "reparameterize",
    "reshape",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "square",
    "subtract",
    "sum",
    "tanh",
    "transpose",
    "where",
]

# The engine knows no ops, so Tensor gets its operators here.
_methods: dict[str, Any] = {
    "__add__": add,
    "__radd__": lambda a, b: add(b, a),
    "__sub__": subtract,
    "__rsub__": lambda a, b: subtract(b, a),
    "__mul__": multiply,
    "__rmul__": lambda a, b: multiply(b, a),
    "__truediv__": divide,
    "__rtruediv__": lambda a, b: divide(b, a),
    "__matmul__": matmul,
    "__rmatmul__": lambda a, b: matmul(b, a),
    "__neg__": negative,
    "__pow__": lambda x, exponent: power(x, exponent=exponent),
    "__getitem__": lambda x, index: getitem(x, index=index),
    "sum": sum,
    "mean": mean,
    "max": max,
    "min": min,
    "reshape": lambda x, *shape: reshape(x, shape=shape[0] if len(shape) == 1 else shape),
    "transpose": lambda x, *axes: transpose(x, axes=axes or None),
    "T": property(lambda x: transpose(x)),
}
for _name, _function in _methods.items():
    # An Op is no function, so it does not bind: wrap it
    setattr(Tensor, _name, _function if not hasattr(_function, "registry") else (lambda op: lambda *a, **k: op(*a, **k))(_function))
