"""Convolution and its two adjoints, NHWC float32, as matrix products whose matrices are never made.

    x (N, H, W, C)    w (KH, KW, C, O)    y (N, OH, OW, O)    stride (sh, sw)    padding ((top, bottom), (left, right)), zeros

Three algorithms, chosen by shape: correlate.py sweeps tiles over pixels, scatter.py serves results of few channels, and a convolution of
stride 1 is also the adjoint of the convolution with the kernel turned by 180 degrees:

    y[p] = sum_i x[p + i - top] w[i]  =  sum_i x[p - i + (KH - 1 - top)] w'[i],        w'[i] = w[KH - 1 - i]
"""

import numpy as np

from ...errors import ShapeError
from ..checks import Padding, Pair, activation_code, output_size
from . import watch
from .correlate import correlate, sum_over_pixels
from .epilogue import as_float32, through_activation
from .gemm import NO_BIAS
from .patches import adjoint_plan, forward_plan
from .scatter import is_faster, multiply_and_scatter
from .tile import LANES

__all__ = [
    "conv2d_forward",
    "conv2d_input_gradient",
    "conv2d_weight_gradient",
    "through_activation",
]


def _checked_output(name: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: Pair, padding: Padding) -> tuple[int, ...]:
    """The shape of y, if everything fits."""
    if len(x_shape) != 4 or len(w_shape) != 4 or x_shape[3] != w_shape[2]:
        raise ShapeError(f"{name}: x is {x_shape}, w is {w_shape}; need (N, H, W, C) and (KH, KW, C, O)")
    (N, H, W, _), (KH, KW, _, O) = x_shape, w_shape
    OH, OW = output_size(H, KH, stride[0], padding[0]), output_size(W, KW, stride[1], padding[1])
    if OH < 1 or OW < 1:
        raise ShapeError(f"{name}: a kernel of {(KH, KW)} does not fit an image of {(H, W)} padded by {padding}; pad more")
    return N, OH, OW, O


def _check_bias(name: str, b: np.ndarray | None, channels: int) -> None:
    if b is not None and b.shape != (channels,):
        raise ShapeError(f"{name}: b is {b.shape}, the result has {channels} channels; need b.shape == {(channels,)}")


def _bias(b: np.ndarray | None) -> np.ndarray:
    return NO_BIAS if b is None else as_float32(b)


def _turned(padding: Padding, w_shape: tuple[int, ...]) -> Padding | None:
    """The padding of the turned kernel's convolution; None where it would be negative."""
    ((top, bottom), (left, right)), (KH, KW, _, _) = padding, w_shape
    if max(top, bottom) >= KH or max(left, right) >= KW:
        return None
    return (KH - 1 - top, KH - 1 - bottom), (KW - 1 - left, KW - 1 - right)


def conv2d_forward(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Padding, activation: str | None = None
) -> np.ndarray:
    """y[n, p, q, o] = act(b[o] + sum_{i, j, c} x[n, sh p + i - top, sw q + j - left, c] w[i, j, c, o]).   -> (N, OH, OW, O)

    OH = (H + top + bottom - KH) // sh + 1, and so for OW; x is zero outside.
    """
    shape = _checked_output("conv2d_forward", x.shape, w.shape, stride, padding)
    _check_bias("conv2d_forward", b, w.shape[3])
    y = np.empty(shape, np.float32)
    if y.size:
        turned = _turned(padding, w.shape)
        if stride == (1, 1) and turned is not None and is_faster(shape, x.shape, w.shape[:2], stride):
            watch.incomplete()
            w = w[::-1, ::-1].transpose(0, 1, 3, 2)
            multiply_and_scatter(as_float32(x), as_float32(w), stride, turned, _bias(b), activation_code(activation), y)
        else:
            plan = forward_plan(x.shape[1], x.shape[2], w.shape, stride, padding)
            correlate(plan, as_float32(x), as_float32(w), 1, _bias(b), activation_code(activation), y)
    return y


def conv2d_input_gradient(
    g: np.ndarray,
    w: np.ndarray,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    b: np.ndarray | None = None,
    activation: str | None = None,
) -> np.ndarray:
    """gx[n, h, v, c] = act(b[c] + sum g[n, p, q, o] w[i, j, c, o] over all p, q, i, j, o with sh p + i - top = h, sw q + j - left = v).

    The adjoint of conv2d_forward in x, and with b (C,) and an activation the forward of the transposed convolution.   -> x_shape
    """
    expected = _checked_output("conv2d_input_gradient", x_shape, w.shape, stride, padding)
    if g.shape != expected:
        raise ShapeError(f"conv2d_input_gradient: g is {g.shape}; x {x_shape} and w {w.shape} make it {expected}")
    _check_bias("conv2d_input_gradient", b, w.shape[2])
    gx = np.empty(x_shape, np.float32)
    if gx.size:
        if is_faster(x_shape, g.shape, w.shape[:2], stride):
            multiply_and_scatter(as_float32(g), as_float32(w), stride, padding, _bias(b), activation_code(activation), gx)
        else:
            plan = adjoint_plan(x_shape[1], x_shape[2], w.shape, stride, padding)
            correlate(plan, as_float32(g), as_float32(w), w.shape[3], _bias(b), activation_code(activation), gx)
    return gx


def conv2d_weight_gradient(x: np.ndarray, g: np.ndarray, kernel_size: Pair, stride: Pair, padding: Padding) -> np.ndarray:
    """gw[i, j, c, o] = sum_{n, p, q} x[n, sh p + i - top, sw q + j - left, c] g[n, p, q, o].   -> (KH, KW, C, O)"""
    w_shape = (*kernel_size, x.shape[-1], g.shape[-1])
    expected = _checked_output("conv2d_weight_gradient", x.shape, w_shape, stride, padding)
    if g.shape != expected:
        raise ShapeError(f"conv2d_weight_gradient: g is {g.shape}; x {x.shape} and a kernel of {kernel_size} make it {expected}")
    if not (x.size and g.size):
        return np.zeros(w_shape, np.float32)
    x, g = as_float32(x), as_float32(g)
    turned = _turned(padding, w_shape)
    (KH, KW), C, O = kernel_size, x.shape[3], g.shape[3]
    if stride == (1, 1) and turned is not None and 2 * C * -(-O // LANES) > 3 * O * -(-C // LANES):
        # few channels in g, more in x: swap their parts, so that fewer lanes of a vector stay empty
        watch.incomplete()
        swapped = sum_over_pixels(forward_plan(g.shape[1], g.shape[2], (KH, KW, O, C), stride, turned), g, x)
        return np.ascontiguousarray(swapped.reshape(KH, KW, O, C)[::-1, ::-1].transpose(0, 1, 3, 2))
    return sum_over_pixels(forward_plan(x.shape[1], x.shape[2], w_shape, stride, padding), x, g).reshape(w_shape)
