"""What the inputs of ops are drawn from: values and options as functions of a random generator, shapes as hypothesis strategies."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

# --- values ---


def anywhere(rng, shape):
    return rng.uniform(-2, 2, shape)


def nonzero(rng, shape):
    return rng.uniform(0.3, 2, shape) * rng.choice([-1, 1], shape)


def positive(rng, shape):
    return rng.uniform(0.3, 3, shape)


def above_minus_one(rng, shape):
    return rng.uniform(-0.6, 2, shape)


def probability(rng, shape):
    return rng.uniform(0.05, 0.95, shape)


def mask(rng, shape):
    return np.asarray(rng.uniform(size=shape) < 0.5)


def distinct(rng, shape):
    return (rng.permutation(int(np.prod(shape))).reshape(shape) - 3) * 0.3 + rng.uniform(-0.1, 0.1, shape)


def near_integers(rng, shape):
    return rng.integers(-2, 3, shape) + rng.uniform(0, 0.2, shape)


def near_halves(rng, shape):
    return near_integers(rng, shape) + 0.5


# --- shapes ---


def arrays(min_dims=0, max_dims=3, min_side=0):
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=3).map(lambda shape: (shape,))


def broadcasting(number, min_dims=0):
    shapes = hnp.mutually_broadcastable_shapes(num_shapes=number, min_dims=min_dims, max_dims=3, min_side=0, max_side=3)
    return shapes.map(lambda found: tuple(found.input_shapes))


def events(number):
    """Shapes that broadcast, of which at least one has all the axes of the event and none is 0-d."""
    return broadcasting(number, min_dims=1)


@st.composite
def posteriors(draw):
    """Shapes of a mean and a log variance that broadcast, and of one sample."""
    mean, logvar = draw(events(2))
    return mean, logvar, np.broadcast_shapes(mean, logvar)


@st.composite
def matrix_products(draw):
    batch = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=1, min_side=0, max_side=2)).input_shapes
    m, k, n = (draw(st.integers(0, 3)) for _ in range(3))
    a = draw(st.sampled_from([(k,), (m, k), (*batch[0], m, k)]))
    b = draw(st.sampled_from([(k,), (k, n), (*batch[1], k, n)]))
    return a, b


@st.composite
def dense_layers(draw):
    batch = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    inputs, outputs = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    return ((*batch, inputs), (inputs, outputs), (outputs,))[: draw(st.integers(2, 3))]


@st.composite
def convolutions(draw, transposed=False):
    n, c, o = draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    if transposed:
        shapes = (n, draw(st.integers(1, 2)), draw(st.integers(1, 2)), o), (height, width, c, o), (c,)
    else:
        shapes = (n, draw(st.integers(height, 4)), draw(st.integers(width, 4)), c), (height, width, c, o), (o,)
    return shapes[: draw(st.integers(2, 3))]


@st.composite
def sequences(draw, gates):
    """x (N, T, I), w, u and b of a GRU (h0, and c at the end) or of an LSTM (h0, c0)."""
    n, steps, inputs, units = (draw(st.integers(0, 3)) for _ in range(4))
    x, state, bias, wide = (n, steps, inputs), (n, units), (units,), gates * units
    weights = (inputs, wide), (units, wide), (wide,)
    return (x, state, *weights, bias) if gates == 3 else (x, state, state, *weights)


@st.composite
def neighbours(draw):
    """Arrays that differ in the length of their first axis alone, to be concatenated."""
    lengths = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    rest = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    return tuple((n, *rest) for n in lengths)


def normalized(min_dims, smallest):
    """x (..., C), gamma (C,), beta (C,).  Over two values a norm is +-1 whatever they are, so three at least."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=3, min_side=smallest, max_side=4).map(lambda s: (s, s[-1:], s[-1:]))


def by_groups():
    """x (N, P, C), scale and shift (C,) or (N, C), in any mixture.  A group of three values at least: see above."""
    sides = st.tuples(st.integers(1, 3), st.integers(3, 4), st.integers(1, 4))
    return st.tuples(sides, st.booleans(), st.booleans()).map(lambda d: (d[0], *[(d[0][0], d[0][2]) if own else d[0][2:] for own in d[1:]]))


def divided():
    """x (..., C), beta (C,), gamma (C, C)."""
    return arrays(1).map(lambda shapes: (shapes[0], shapes[0][-1:], 2 * shapes[0][-1:]))


# --- options ---


def groups_of(rng, shapes):
    channels = shapes[0][-1]
    return {"groups": int(rng.choice([k for k in range(1, channels + 1) if channels % k == 0])), "eps": float(rng.choice([1e-5, 0.1]))}


def full_axis(rng, shapes):
    """An axis that is not empty: a maximum over nothing is not defined."""
    return {"axis": int(rng.choice([i - len(shapes[0]) * k for i, n in enumerate(shapes[0]) if n for k in (0, 1)]))}


def axis_or_all(rng, shapes):
    ndim = len(shapes[0])
    axis = None if ndim == 0 or rng.random() < 0.3 else int(rng.integers(-ndim, ndim))
    return {"axis": axis, "keepdims": bool(rng.integers(2))}


def some_axes(rng, shapes):
    ndim = len(shapes[0])
    axes = tuple(int(i) - ndim * int(rng.integers(2)) for i in rng.permutation(ndim)[: rng.integers(ndim + 1)])
    return [axis_or_all(rng, shapes), {"axis": axes, "keepdims": bool(rng.integers(2))}][rng.integers(2)]


def reshaped(rng, shapes):
    size = int(np.prod(shapes[0]))
    return {"shape": [(size,), (1, size, 1), -1 if size else (0, 2), shapes[0][::-1]][rng.integers(4)]}


def permuted(rng, shapes):
    ndim = len(shapes[0])
    axes = tuple(int(i) - ndim * int(rng.integers(2)) for i in rng.permutation(ndim))
    return {"axes": [axes, None][rng.integers(2)]}


def stretched(rng, shapes):
    stretch = [int(rng.integers(4)) if n == 1 else n for n in shapes[0]]
    return {"shape": (*rng.integers(1, 3, rng.integers(3)).tolist(), *stretch)}


def indexed(rng, shapes):
    n = shapes[0][0]
    chosen = rng.integers(-n, n, 5)  # elements named twice
    indices = [0, -1, slice(None, None, -1), slice(1, None, 2), (Ellipsis, None, 0), (slice(None), None)]
    indices += [chosen, chosen.tolist(), (chosen, Ellipsis), mask(rng, (n,)), mask(rng, shapes[0]), (Ellipsis, np.array([[0, 0], [0, -1]]))]
    return {"index": indices[rng.integers(len(indices))]}


def cut(rng, shapes):
    (shape,) = shapes
    axis = int(rng.integers(-len(shape), len(shape)))
    divisors = [k for k in range(1, shape[axis] + 1) if shape[axis] % k == 0] or [2]
    return {"sections": int(rng.choice(divisors)), "axis": axis}


def padded(rng, shapes):
    return {"widths": tuple(map(tuple, rng.integers(0, 3, (len(shapes[0]), 2)).tolist())), "value": float(rng.normal())}


def fused(rng, shapes):
    return {"activation": [None, "relu", "tanh", "sigmoid"][rng.integers(4)]}


def convolved(rng, shapes):
    stride, padding = rng.integers(1, 4, 2).tolist(), rng.integers(0, 3, (2, 2)).tolist()
    return fused(rng, shapes) | {"stride": tuple(stride), "padding": tuple(map(tuple, padding))}


def convolved_back(rng, shapes):
    kernel, stride = shapes[1][:2], rng.integers(1, 4, 2)
    padding = [(int(rng.integers((k + 1) // 2)), int(rng.integers((k + 1) // 2))) for k in kernel]
    smallest = [(n - 1) * s + k - sum(p) for n, s, k, p in zip(shapes[0][1:3], stride, kernel, padding, strict=True)]
    size = tuple(int(n + rng.integers(s)) for n, s in zip(smallest, stride, strict=True))
    return fused(rng, shapes) | {"stride": tuple(stride.tolist()), "padding": tuple(padding), "size": [None, size][rng.integers(2)]}


def event(rng, shapes):
    return {"event_ndim": int(rng.integers(0, max(map(len, shapes)) + 1))}


def number(name, *choices):
    return lambda rng, shapes: {name: choices[rng.integers(len(choices))]}
