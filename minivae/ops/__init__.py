"""Every differentiable function.

`Op.registry` lists them by name.  The reference forward and vjp of each stand in this folder, one file a family.
"""

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
    sample_and_kl,
)
from .gamma import beta_binomial_log_prob, log_gamma
from .normalization import batch_norm, dropout, gdn, group_norm, layer_norm
from .recurrent import gru, lstm
from .reductions import logsumexp, max, mean, min, sum
from .shapes import broadcast_to, concatenate, depth_to_space, getitem, pad, reshape, split, transpose

__all__ = [
    "absolute",
    "add",
    "batch_norm",
    "bernoulli_log_prob",
    "beta_binomial_log_prob",
    "broadcast_to",
    "concatenate",
    "continuous_bernoulli_log_normalizer",
    "conv2d",
    "conv_transpose2d",
    "dense",
    "depth_to_space",
    "divide",
    "dropout",
    "elu",
    "exp",
    "exp_remainder",
    "expm1",
    "gaussian_kl_standard",
    "gaussian_log_prob",
    "gdn",
    "getitem",
    "group_norm",
    "gru",
    "layer_norm",
    "leaky_relu",
    "log",
    "log1p",
    "log_gamma",
    "log_softmax",
    "logsumexp",
    "lstm",
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
    "sample_and_kl",
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
