"""Rearranging elements: every vjp puts each gradient back where its element came from."""

from itertools import accumulate

import numpy as np

from ..backend import xp
from ..engine import Op, unbroadcast
from ..errors import ShapeError


def reshape_reference(x, shape):
    """The same elements in another shape; one axis may be -1."""
    return x.reshape(shape), (x.shape,)


def reshape_vjp(g, shape):
    return (g.reshape(shape),)


def transpose_reference(x, axes=None):
    """y[i, j, ...] = x[permuted]; by default the axes are reversed."""
    axes = tuple(range(x.ndim))[::-1] if axes is None else tuple(a % x.ndim for a in axes)
    return x.transpose(axes), (axes,)


def transpose_vjp(g, axes):
    return (g.transpose(tuple(int(i) for i in np.argsort(axes))),)


def broadcast_to_reference(x, shape):
    """y = x repeated along new axes and along those of length one"""
    return xp(x).broadcast_to(x, shape), (x.shape,)


def broadcast_to_vjp(g, shape):
    return (unbroadcast(g, shape),)


def getitem_reference(x, index):
    """y = x[index]: ints, slices, None, Ellipsis, integer arrays or a mask"""
    return x[index], (x.shape, index)


def getitem_vjp(g, shape, index):
    module = xp(g)
    gx = module.zeros(shape, g.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is Ellipsis or isinstance(part, int | np.integer | slice) for part in parts):
        gx[index] = g
    else:
        module.add.at(gx, index, g)  # an integer array may name an element twice: its gradients add up
    return (gx,)


def concatenate_reference(*parts, axis=0):
    """y = the parts, one behind the other along the axis"""
    module = xp(next((p for p in parts if hasattr(p, "dtype")), parts[0]))
    return module.concatenate(parts, axis=axis), ([p.shape[axis] for p in parts], axis)


def concatenate_vjp(g, lengths, axis):
    return tuple(xp(g).split(g, list(accumulate(lengths))[:-1], axis=axis))


def split_reference(x, sections, axis=-1):
    """The adjoint of concatenate: x cut into equal sections along the axis, each a Tensor of its own."""
    if x.shape[axis] % sections:
        raise ShapeError(f"split: axis {axis} of {x.shape} does not divide into {sections} equal sections")
    width, front = x.shape[axis] // sections, (slice(None),) * (axis % x.ndim)
    return tuple([x[(*front, slice(i * width, (i + 1) * width))] for i in range(sections)]), (axis,)


def split_vjp(g, axis):
    whole = _beside_each_other(g, axis)
    return (xp(g[0]).concatenate(g, axis=axis) if whole is None else whole,)


def _beside_each_other(parts, axis):
    """The array whose sections along the axis the parts are, if there is one: a kernel may have written them there."""
    whole = getattr(parts[0], "base", None)
    if whole is None or type(whole) is not type(parts[0]) or any(part.base is not whole for part in parts) or parts[0].ndim != whole.ndim:
        return None
    sections = split_reference(whole, len(parts), axis)[0] if whole.shape[axis] % len(parts) == 0 else ()
    same = [_place(a) == _place(b) for a, b in zip(parts, sections, strict=False)]
    return whole if same and all(same) else None


def _place(a):
    """Where an array lies, and how."""
    return a.ctypes.data if type(a) is np.ndarray else a.data.ptr, a.shape, a.strides, a.dtype


def pad_reference(x, widths, value=0.0):
    """x with `widths` = ((before, after), ...) constant elements around it, one pair per axis"""
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
    return xp(x).pad(x, widths, constant_values=value), (inside,)


def pad_vjp(g, inside):
    return (g[inside],)


reshape = Op("reshape", numpy=(reshape_reference, reshape_vjp))
transpose = Op("transpose", numpy=(transpose_reference, transpose_vjp))
broadcast_to = Op("broadcast_to", numpy=(broadcast_to_reference, broadcast_to_vjp))
getitem = Op("getitem", numpy=(getitem_reference, getitem_vjp))
_concatenate = Op("concatenate", numpy=(concatenate_reference, concatenate_vjp))
split = Op("split", numpy=(split_reference, split_vjp))
pad = Op("pad", numpy=(pad_reference, pad_vjp))


def concatenate(parts, axis=0):
    """The parts (Tensors or arrays), one behind the other along the axis."""
    return _concatenate(*parts, axis=axis)


def depth_to_space(x, block=2):
    """y[n, i b + k, j b + l, c] = x[n, i, j, (k b + l) C + c]: channels become pixels.     (N, H, W, b^2 C) -> (N, b H, b W, C)"""
    n, height, width, channels = x.shape
    if channels % block**2:
        raise ShapeError(f"depth_to_space: {tuple(x.shape)} has {channels} channels; need a multiple of {block}^2 = {block**2}")
    apart = transpose(reshape(x, (n, height, width, block, block, channels // block**2)), (0, 1, 3, 2, 4, 5))
    return reshape(apart, (n, height * block, width * block, channels // block**2))
