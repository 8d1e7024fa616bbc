"""Two-dimensional convolution and its transpose on (N, H, W, C) images, with bias and activation in one op.

Three linear maps carry everything, each the adjoint of another in one argument:

    correlate(x, w)          y[n,i,j,o] = sum_{k,l,c} x[n, i sh + k - top, j sw + l - left, c] w[k,l,c,o]     x outside the image is 0
    correlate_input_adjoint  x from (y, w):  <correlate(x, w), y> = <x, correlate_input_adjoint(y, w)>
    correlate_weight_adjoint w from (x, y):  <correlate(x, w), y> = <w, correlate_weight_adjoint(x, y)>

`conv2d` is correlate; `conv_transpose2d` is correlate_input_adjoint, so both share the layout of w: (KH, KW, C, O), where C belongs to
the larger image.  V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", 2016.
"""

import numpy as np

from ..backend import xp
from ..engine import Op
from ..kernels.checks import check_conv, transposed_size
from ..kernels.cpu import conv
from ..kernels.gpu import KERNELS as GPU
from ..kernels.lazy import kernels_only
from .dense import fused_activation, fused_activation_gradient


def _windows(x, kernel, stride, padding):
    """Every window that the kernel sees.   (N, H, W, C) -> (N, OH, OW, C, KH, KW), a view of the padded image"""
    module = xp(x)
    padded = module.pad(x, ((0, 0), *padding, (0, 0)))
    windows = module.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return windows[:, :: stride[0], :: stride[1]]


def correlate(x, w, stride, padding):
    windows = _windows(x, w.shape[:2], stride, padding)
    return xp(x).tensordot(windows, w, axes=((4, 5, 3), (0, 1, 2)))  # (N,OH,OW,C,KH,KW), (KH,KW,C,O) -> (N,OH,OW,O)


def correlate_weight_adjoint(x, y, kernel, stride, padding):
    windows = _windows(x, kernel, stride, padding)[:, : y.shape[1], : y.shape[2]]
    gw = xp(x).tensordot(windows, y, axes=((0, 1, 2), (0, 1, 2)))  # -> (C, KH, KW, O)
    return gw.transpose(1, 2, 0, 3)


def correlate_input_adjoint(y, w, x_shape, stride, padding):
    (top, bottom), (left, right) = padding
    n, height, width, channels = x_shape
    padded = xp(y).zeros((n, height + top + bottom, width + left + right, channels), np.result_type(y.dtype, w.dtype))
    for k in range(w.shape[0]):
        for l in range(w.shape[1]):  # every y goes back to the pixels that its window saw, one kernel element at a time
            rows = slice(k, k + stride[0] * y.shape[1], stride[0])
            columns = slice(l, l + stride[1] * y.shape[2], stride[1])
            padded[:, rows, columns] += y @ w[k, l].T  # (N,OH,OW,O) -> (N,OH,OW,C)
    return padded[:, top : top + height, left : left + width]


def conv2d_reference(x, w, b=None, stride=1, padding=0, activation=None):
    """y = act(correlate(x, w) + b).     x (N,H,W,C), w (KH,KW,C,O), b (O,) or None -> (N,OH,OW,O)"""
    stride, padding = check_conv("conv2d", x, w, b, 2, stride, padding)
    h = correlate(x, w, stride, padding)
    y = fused_activation(h if b is None else h + b, activation)
    return y, (x, w, y, stride, padding, activation)


def conv2d_vjp(g, x, w, y, stride, padding, activation, needs):
    g = fused_activation_gradient(g, y, activation)
    gx = correlate_input_adjoint(g, w, x.shape, stride, padding) if needs[0] else None
    gw = correlate_weight_adjoint(x, g, w.shape[:2], stride, padding) if needs[1] else None
    gb = g.sum(axis=(0, 1, 2)) if len(needs) > 2 and needs[2] else None
    return gx, gw, gb


def conv_transpose2d_reference(x, w, b=None, stride=1, padding=0, size=None, activation=None):
    """y = act(correlate_input_adjoint(x, w) + b).     x (N,H,W,O), w (KH,KW,C,O), b (C,) or None -> (N,*size,C)

    With stride s several image sizes have the same convolved size; `size` picks one, by default the smallest:
    (H - 1) s + KH - top - bottom.
    """
    stride, padding = check_conv("conv_transpose2d", x, w, b, 3, stride, padding)
    size = transposed_size(x, w, stride, padding, size)
    h = correlate_input_adjoint(x, w, (x.shape[0], *size, w.shape[2]), stride, padding)
    y = fused_activation(h if b is None else h + b, activation)
    return y, (x, w, y, stride, padding, activation)


def conv_transpose2d_vjp(g, x, w, y, stride, padding, activation, needs):
    g = fused_activation_gradient(g, y, activation)
    gx = correlate(g, w, stride, padding) if needs[0] else None
    gw = correlate_weight_adjoint(g, x, w.shape[:2], stride, padding) if needs[1] else None
    gb = g.sum(axis=(0, 1, 2)) if len(needs) > 2 and needs[2] else None
    return gx, gw, gb


@kernels_only
def conv2d_numba(x, w, b=None, stride=1, padding=0, activation=None):
    stride, padding = check_conv("conv2d", x, w, b, 2, stride, padding)
    y = conv.conv2d_forward(x, w, b, stride, padding, activation)
    return y, (x, w, y, stride, padding, activation)


@kernels_only
def conv2d_numba_vjp(g, x, w, y, stride, padding, activation, needs):
    g, gb = conv.through_activation(g, y, activation, len(needs) > 2 and needs[2])
    gx = conv.conv2d_input_gradient(g, w, x.shape, stride, padding) if needs[0] else None
    gw = conv.conv2d_weight_gradient(x, g, w.shape[:2], stride, padding) if needs[1] else None
    return gx, gw, gb


@kernels_only
def conv_transpose2d_numba(x, w, b=None, stride=1, padding=0, size=None, activation=None):
    stride, padding = check_conv("conv_transpose2d", x, w, b, 3, stride, padding)
    size = transposed_size(x, w, stride, padding, size)
    y = conv.conv2d_input_gradient(x, w, (x.shape[0], *size, w.shape[2]), stride, padding, b, activation)
    return y, (x, w, y, stride, padding, activation)


@kernels_only
def conv_transpose2d_numba_vjp(g, x, w, y, stride, padding, activation, needs):
    g, gb = conv.through_activation(g, y, activation, len(needs) > 2 and needs[2])
    gx = conv.conv2d_forward(g, w, None, stride, padding) if needs[0] else None
    gw = conv.conv2d_weight_gradient(g, x, w.shape[:2], stride, padding) if needs[1] else None
    return gx, gw, gb


conv2d = Op("conv2d", numpy=(conv2d_reference, conv2d_vjp), numba=(conv2d_numba, conv2d_numba_vjp), cupy=GPU["conv2d"])
conv_transpose2d = Op(
    "conv_transpose2d",
    numpy=(conv_transpose2d_reference, conv_transpose2d_vjp),
    numba=(conv_transpose2d_numba, conv_transpose2d_numba_vjp),
    cupy=GPU["conv_transpose2d"],
)
