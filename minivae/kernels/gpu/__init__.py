"""CUDA kernels and the one launcher.  The .cu files hold the kernels, the .py files beside them say how they are called.

`KERNELS` has (forward, vjp) of every op with a kernel here, with the signatures of the references.
"""

from collections.abc import Callable
from typing import Any

from . import activations, conv, dense, densities, matmul, normalization, recurrent

KERNELS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "batch_norm": normalization.batch_norm,
    "bernoulli_log_prob": densities.bernoulli_log_prob,
    "conv2d": conv.conv2d,
    "conv_transpose2d": conv.conv_transpose2d,
    "dense": dense.dense,
    "elu": activations.elu,
    "gaussian_kl_standard": densities.gaussian_kl_standard,
    "gaussian_log_prob": densities.gaussian_log_prob,
    "gru": recurrent.gru,
    "leaky_relu": activations.leaky_relu,
    "log_softmax": activations.log_softmax,
    "logsumexp": activations.logsumexp,
    "lstm": recurrent.lstm,
    "matmul": matmul.matmul,
    "relu": activations.relu,
    "reparameterize": densities.reparameterize,
    "sample_and_kl": densities.sample_and_kl,
    "sigmoid": activations.sigmoid,
    "silu": activations.silu,
    "softmax": activations.softmax,
    "softplus": activations.softplus,
    "tanh": activations.tanh,
}
