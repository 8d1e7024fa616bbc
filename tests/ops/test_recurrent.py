"""GRU and LSTM against their equations written out with elementary ops, one step at a time, and against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minivae import ShapeError, Tensor, gradients, ops

LAYERS = pytest.mark.parametrize("name", ["gru", "lstm"])


def drawn(name, n, steps, inputs, units, seed=0):
    """The inputs of the op, float64."""
    rng = np.random.default_rng(seed)
    wide = (3 if name == "gru" else 4) * units
    shapes = [(n, steps, inputs), (n, units), *[(n, units)] * (name == "lstm"), (inputs, wide), (units, wide), (wide,)]
    return [rng.normal(size=shape) for shape in shapes + [(units,)] * (name == "gru")]


def gru_by_steps(x, h, w, u, b, c):
    states, units = [], h.shape[1]
    part = [slice(k * units, (k + 1) * units) for k in range(3)]
    for t in range(x.shape[1]):
        r, z = (ops.sigmoid(x[:, t] @ w[:, p] + h @ u[:, p] + b[p]) for p in part[:2])
        candidate = ops.tanh(x[:, t] @ w[:, part[2]] + b[part[2]] + r * (h @ u[:, part[2]] + c))
        h = z * h + (1.0 - z) * candidate
        states.append(h.reshape(h.shape[0], 1, units))
    return (ops.concatenate(states, axis=1),)


def lstm_by_steps(x, h, c, w, u, b):
    states, units = [], h.shape[1]
    for t in range(x.shape[1]):
        total = x[:, t] @ w + h @ u + b
        i, f, candidate, o = (total[:, k * units : (k + 1) * units] for k in range(4))
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(candidate)
        h = ops.sigmoid(o) * ops.tanh(c)
        states.append(h.reshape(h.shape[0], 1, units))
    return ops.concatenate(states, axis=1), c


BY_STEPS = {"gru": gru_by_steps, "lstm": lstm_by_steps}


def outputs(name, inputs):
    y = getattr(ops, name)(*inputs)
    return y if isinstance(y, tuple) else (y,)


@LAYERS
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_the_sequence_is_its_steps(name, n, steps, inputs, units, seed):
    """Values and gradients, over six steps.  Rounding: sums of a few terms a step, and slopes of at most 1, in the largest gradient."""
    arrays = drawn(name, n, steps, inputs, units, seed)
    u = [np.random.default_rng(seed + 1).normal(size=y.shape) for y in outputs(name, arrays)]
    found = []
    for f in (lambda *tensors: outputs(name, tensors), BY_STEPS[name]):
        tensors = [Tensor(a) for a in arrays]
        y = f(*tensors)
        loss = sum(((part * weight).sum() for part, weight in zip(y[1:], u[1:], strict=True)), (y[0] * u[0]).sum())
        found.append(([part.data for part in y], gradients(loss, tensors)))
    (y, g), (expected_y, expected_g) = found
    for a, b in zip(y, expected_y, strict=True):
        assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    for a, b in zip(g, expected_g, strict=True):
        assert_allclose(a, b, rtol=1e-12, atol=1e-12 * max(abs(part).max() for part in expected_g))


def test_gru_by_hand():
    """No input and no weights: z = sigmoid(log 3) = 3/4, r = sigmoid(-log 3) = 1/4, n = tanh(1 + r (h u_n + 2)), h' = 3/4 h + n / 4."""
    w, b, c = np.zeros((1, 3)), np.array([-math.log(3), math.log(3), 1.0]), np.array([2.0])
    (h,) = outputs("gru", [np.zeros((1, 2, 1)), np.array([[4.0]]), w, np.array([[0.0, 0.0, 0.5]]), b, c])
    first = 3 + math.tanh(1 + (2 + 2) / 4) / 4
    second = 0.75 * first + math.tanh(1 + (first / 2 + 2) / 4) / 4
    assert_allclose(h.data[0, :, 0], [first, second], rtol=1e-15)


def test_lstm_by_hand():
    """i = 1/4, f = 3/4, n = tanh(1), o = sigmoid(log 9 + x) with x = 0 and then log(1/9): 9/10 and 1/2."""
    b = np.array([-math.log(3), math.log(3), 1.0, math.log(9)])
    w = np.array([[0.0, 0.0, 0.0, 1.0]])
    x = np.array([[[0.0], [-math.log(9)]]])
    h, c = outputs("lstm", [x, np.zeros((1, 1)), np.array([[2.0]]), w, np.zeros((1, 4)), b])
    cells = [1.5 + math.tanh(1) / 4, 0.75 * (1.5 + math.tanh(1) / 4) + math.tanh(1) / 4]
    assert_allclose(h.data[0, :, 0], [0.9 * math.tanh(cells[0]), 0.5 * math.tanh(cells[1])], rtol=1e-15)
    assert_allclose(c.data, [[cells[1]]], rtol=1e-15)


@LAYERS
def test_a_sequence_goes_on_where_it_was_cut(name):
    arrays = drawn(name, 2, 7, 3, 4)
    whole = outputs(name, arrays)
    first = outputs(name, [arrays[0][:, :3], *arrays[1:]])
    state = [first[0].data[:, -1], *(part.data for part in first[1:])]
    rest = outputs(name, [arrays[0][:, 3:], *state, *arrays[1 + len(state) :]])
    assert_allclose(np.concatenate([first[0].data, rest[0].data], axis=1), whole[0].data, rtol=1e-14, atol=1e-15)
    for a, b in zip(rest[1:], whole[1:], strict=True):
        assert_allclose(a.data, b.data, rtol=1e-14)


@LAYERS
def test_no_steps_and_no_examples(name):
    """Over no steps the LSTM's last cell is its first, and nothing else has a gradient."""
    tensors = [Tensor(a) for a in drawn(name, 2, 0, 3, 4)]
    y = outputs(name, tensors)
    assert y[0].shape == (2, 0, 4)
    if name == "lstm":
        assert_array_equal(y[1].data, tensors[2].data)
        g = gradients(y[1].sum(), tensors)
        assert_array_equal(g[2], np.ones((2, 4)))
        assert not any(part.any() for i, part in enumerate(g) if i != 2)
    tensors = [Tensor(a) for a in drawn(name, 0, 5, 3, 4)]
    y = outputs(name, tensors)
    assert y[0].shape == (0, 5, 4)
    assert [part.shape for part in gradients(y[0].sum(), tensors)] == [t.shape for t in tensors]


@LAYERS
def test_one_wrong_shape_is_a_sentence(name):
    for i, message in enumerate([r"x is \(2, 5, 4\)", r"h0 is \(2, 5\)"]):
        arrays = drawn(name, 2, 5, 3, 4)
        arrays[i] = np.zeros((*arrays[i].shape[:-1], arrays[i].shape[-1] + 1))
        with pytest.raises(ShapeError, match=f"{name}: x is .*{message}|{name}: {message}"):
            getattr(ops, name)(*arrays)
    for i in range(2, len(drawn(name, 2, 5, 3, 4))):
        arrays = drawn(name, 2, 5, 3, 4)
        arrays[i] = arrays[i][..., 1:]
        with pytest.raises(ShapeError, match=f"{name}: .* need "):
            getattr(ops, name)(*arrays)
    with pytest.raises(ShapeError, match=r"need x \(N, T, I\)"):
        getattr(ops, name)(arrays[0][0], *arrays[1:])
