"""What fits together: the shapes and options of layers, checked once for the references and for the kernels of every device."""

from typing import Any

import numpy as np

from ..backend import Array
from ..errors import ShapeError, UsageError

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
ACTIVATIONS = {None: 0, "relu": 1, "tanh": 2, "sigmoid": 3}  # what a layer may end in, as kernels number it


def activation_code(name: str | None) -> int:
    if name not in ACTIVATIONS:
        raise UsageError(f"activation {name!r} cannot be fused into a layer; choose None, 'relu', 'tanh' or 'sigmoid'")
    return ACTIVATIONS[name]


def check_dense(x: Array, w: Array, b: Array | None) -> None:
    if x.ndim == 0 or w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise ShapeError(f"dense: x is {x.shape}, w is {w.shape}; need x.shape[-1] == w.shape[0]")
    if b is not None and b.shape != w.shape[1:]:
        raise ShapeError(f"dense: w is {w.shape}, b is {b.shape}; need b.shape == ({w.shape[1]},)")


def check_matmul(a: Array, b: Array) -> None:
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ShapeError(f"matmul: a is {a.shape}, b is {b.shape}; need the last axis of a to match the second to last of b")


def pair(value: Any) -> Pair:
    """2 -> (2, 2)"""
    if isinstance(value, int | np.integer):
        return int(value), int(value)
    if len(value) != 2:
        raise ShapeError(f"{tuple(value)} is no pair; need one number for both axes, or two: height and width, or before and after")
    return value[0], value[1]


def padding_pairs(padding: Any) -> Padding:
    """p -> ((p, p), (p, p));  (ph, pw) -> ((ph, ph), (pw, pw));  ((top, bottom), (left, right)) as it is"""
    height, width = pair(padding)
    return pair(height), pair(width)


def output_size(size: int, kernel: int, stride: int, padding: Pair) -> int:
    """Pixels of a convolution's result along one axis: floor((size + before + after - kernel) / stride) + 1; below 1 if it does not fit."""
    return (size + sum(padding) - kernel) // stride + 1


def check_conv(name: str, x: Array, w: Array, b: Array | None, channel_axis: int, stride: Any, padding: Any) -> tuple[Pair, Padding]:
    """The options as pairs, or one sentence about what does not fit."""
    stride, padding = pair(stride), padding_pairs(padding)
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[channel_axis]:
        raise ShapeError(f"{name}: x is {x.shape}, w is {w.shape}; need x (N, H, W, C) and w with w.shape[{channel_axis}] == C")
    result_axis = 5 - channel_axis
    if b is not None and b.shape != (w.shape[result_axis],):
        raise ShapeError(f"{name}: w is {w.shape}, b is {b.shape}; need b.shape == ({w.shape[result_axis]},)")
    if min(stride) < 1 or min(*padding[0], *padding[1]) < 0:
        raise ShapeError(f"{name}: stride is {stride}, padding is {padding}; need stride >= 1 and padding >= 0")
    if channel_axis == 2:
        for axis in (0, 1):
            if x.shape[1 + axis] + sum(padding[axis]) < w.shape[axis]:
                raise ShapeError(f"{name}: the kernel {w.shape[:2]} is larger than the image {x.shape[1:3]} with padding {padding}")
    return stride, padding


def transposed_size(x: Array, w: Array, stride: Pair, padding: Padding, size: Any) -> Pair:
    smallest = tuple((x.shape[1 + i] - 1) * stride[i] + w.shape[i] - sum(padding[i]) for i in (0, 1))
    size = smallest if size is None else pair(size)
    if any(n < 1 or output_size(n, w.shape[i], stride[i], padding[i]) != x.shape[1 + i] for i, n in enumerate(size)):
        raise ShapeError(
            f"conv_transpose2d: size {size} does not convolve to {x.shape[1:3]} with kernel {w.shape[:2]}, stride {stride}, "
            f"padding {padding}; need {smallest[0]} to {smallest[0] + stride[0] - 1} by {smallest[1]} to {smallest[1] + stride[1] - 1}"
        )
    return size


def check_gru(x: Array, h0: Array, w: Array, u: Array, b: Array, c: Array) -> None:
    check_recurrent("gru", 3, x, w, u, b, h0=h0)
    if c.shape != (u.shape[0],):
        raise ShapeError(f"gru: c is {c.shape}, u is {u.shape}; need c.shape == ({u.shape[0]},)")


def check_lstm(x: Array, h0: Array, c0: Array, w: Array, u: Array, b: Array) -> None:
    check_recurrent("lstm", 4, x, w, u, b, h0=h0, c0=c0)


def check_recurrent(name: str, gates: int, x: Array, w: Array, u: Array, b: Array, **states: Array) -> None:
    if x.ndim != 3 or w.ndim != 2 or u.ndim != 2 or x.shape[2] != w.shape[0]:
        raise ShapeError(f"{name}: x is {x.shape}, w is {w.shape}, u is {u.shape}; need x (N, T, I) and w (I, {gates} H)")
    units = u.shape[0]
    if (u.shape[1], w.shape[1]) != (gates * units,) * 2 or b.shape != (gates * units,):
        need = f"w (I, {gates * units}), u ({units}, {gates * units}) and b ({gates * units},)"
        raise ShapeError(f"{name}: w is {w.shape}, u is {u.shape}, b is {b.shape}; need {need}")
    for state, a in states.items():
        if a.shape != (len(x), units):
            raise ShapeError(f"{name}: x is {x.shape}, {state} is {a.shape}; need {state}.shape == ({len(x)}, {units})")
