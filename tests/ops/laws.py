"""What the laws of the table are made of: calls with and without a graph, memory layouts, differences, complex steps.

An op is seen as one function of all its active inputs, F(x_1, ..., x_n), and its outputs as one vector.  Directions v and cotangents u
are lists of arrays, <u, v> their inner product.
"""

from dataclasses import replace

import numpy as np

from minivae import Tensor, gradients, no_grad

TINY = 1e-30  # the complex step: its square is below every rounding, so that Im f(x + i TINY v) / TINY is the derivative itself


def direction(rng, arrays):
    return [np.asarray(rng.uniform(0.2, 1, a.shape) * rng.choice([-1, 1], a.shape)) for a in arrays]


def inner(u, v, each=lambda product: product):
    return sum(np.sum(each(a * b)) for a, b in zip(u, v, strict=True))


def active(case, inputs=None):
    return [(case.inputs if inputs is None else inputs)[i] for i in case.active]


def moved(case, step, inputs=None):
    """The inputs, the active ones moved by `step`."""
    inputs = list(case.inputs if inputs is None else inputs)
    for i, s in zip(case.active, step, strict=True):
        inputs[i] = inputs[i] + s
    return inputs


def value(case, inputs=None):
    """The outputs as a list of arrays."""
    with no_grad():
        y = case.op(*(case.inputs if inputs is None else inputs), **case.options)
    return [t.data for t in (y if isinstance(y, tuple) else (y,))]


def pulled_back(case, u, inputs=None, chosen=None):
    """J' u: the gradients of <u, F> for the chosen inputs (default: the active ones), through the engine."""
    chosen = case.active if chosen is None else chosen
    inputs = case.inputs if inputs is None else inputs
    tensors = [Tensor(a) if i in chosen else a for i, a in enumerate(inputs)]
    y = case.op(*tensors, **case.options)
    params = [tensors[i] for i in chosen]
    if not isinstance(y, tuple):
        return gradients(y, params, u[0])
    return [sum(parts[1:], parts[0]) for parts in zip(*(gradients(t, params, part) for t, part in zip(y, u, strict=True)), strict=True)]


def vjp_of(case, u, inputs=None):
    """The vjp called by hand, once for all outputs: what it was given, and the parts it returned."""
    inputs = list(case.inputs if inputs is None else inputs)
    forward, vjp = case.op.kernel(inputs)
    _, saved = forward(*inputs, **case.options)
    g = tuple(u) if case.op.name in ("split", "batch_norm", "lstm", "sample_and_kl") else u[0]
    return vjp(g, *saved, **({"needs": (True,) * len(inputs)} if case.op.takes_needs else {}))


def pushed_forward(case, v):
    """J v by the complex step."""
    return [y.imag / TINY for y in value(case, moved(case, [1j * TINY * a for a in v]))]


def basis(arrays):
    """Every direction v that moves one element, arrays[i][index]."""
    for i, a in enumerate(arrays):
        for index in np.ndindex(a.shape):
            v = [np.zeros(b.shape) for b in arrays]
            v[i][index] = 1
            yield v, i, index


def magnitudes(case, u):
    """|F| + |J||x|, and |J|'|u| + |H_u||x|: times the unit of rounding, what a backward stable algorithm may err by.

    H_u, the derivative of J'u, comes from a complex step through the backward pass.  A fused activation is left out of J and H: its slope
    is at most 1 and is read off its value, as 1 - y^2, with an error of one unit however small it is.
    """
    plain = replace(case, options=case.options | {"activation": None}) if "activation" in case.options else case
    of_value = [np.asarray(abs(y)) for y in value(case)]
    of_gradient = [np.zeros(a.shape) for a in active(case)]
    for v, i, index in basis(active(case)):
        size, step = abs(active(case)[i][index]), [1j * TINY * a for a in v]
        of_value = [np.asarray(m + abs(c) * size) for m, c in zip(of_value, pushed_forward(case, v), strict=True)]
        of_gradient[i][index] += inner(u, pushed_forward(plain, v), abs)
        rows = pulled_back(plain, u, moved(case, step))
        of_gradient = [np.asarray(m + abs(r.imag / TINY) * size) for m, r in zip(of_gradient, rows, strict=True)]
    return of_value, of_gradient


def strided(a):
    """Every second element of a larger array, of which the rest is NaN."""
    spread = np.full([2 * n for n in a.shape], np.nan).astype(a.dtype)
    view = spread[(..., *[slice(None, None, 2)] * a.ndim)]
    view[...] = a
    return view


LAYOUTS = {
    "strided": strided,
    "transposed": lambda a: a.T.copy().T,
    "negative strides": lambda a: np.flip(np.flip(a).copy()),
    "read-only": lambda a: np.broadcast_to(a, a.shape),
}
