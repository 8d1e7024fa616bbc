"""Recurrent layers: they remember."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minivae import Adam, Stream, Tensor, gradients, nn, ops

LAYERS = pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM])


@LAYERS
def test_the_states_start_from_zero(layer):
    rnn = layer(3, 5, Stream(0))
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    h = rnn(x)
    assert (h.shape, h.dtype) == ((2, 4, 5), np.float32)
    zero = np.zeros((2, 5), np.float32)
    assert_array_equal(rnn(x, *[zero] * (1 if layer is nn.GRU else 2)).data, h.data)
    assert abs(rnn(x, zero + 1).data - h.data).max() > 0.01
    assert_array_equal(rnn(Tensor(x)).data, h.data)
    assert len(gradients(h.sum(), rnn.parameters())) == len(rnn.parameters()) == (4 if layer is nn.GRU else 3)
    assert all(g.any() for g in gradients((h * h).sum(), rnn.parameters()))


def test_a_new_lstm_remembers():
    """Without input and output, a cell keeps sigmoid(1) = 73% of itself a step."""
    rnn = nn.LSTM(1, 3, Stream(0))
    rnn.u.data[...] = 0
    _, c = rnn.run(np.zeros((1, 4, 1), np.float32), None, np.full((1, 3), 2, np.float32))
    assert_allclose(c.data, 2 / (1 + math.exp(-1)) ** 4 * np.ones((1, 3)), rtol=1e-6)


@LAYERS
def test_two_bits_are_copied_over_a_gap(layer):
    """Seen at the first step, asked for at the eighth: a network without a memory has the loss log 2 = 0.69 a bit."""
    rng = Stream(1)
    rnn, out = layer(2, 12, rng), nn.Dense(12, 2, rng)
    params = [*rnn.parameters(), *out.parameters()]
    optimizer = Adam(params, 0.02)
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    x = np.zeros((4, 8, 2), np.float32)
    x[:, 0] = 2 * bits - 1

    def loss():
        return -ops.bernoulli_log_prob(out(rnn(x)[:, -1]), bits, 1).mean() / 2.0

    assert abs(loss().item() - math.log(2)) < 0.1
    for _ in range(200):
        optimizer.step(gradients(loss(), params))
    assert loss().item() < 0.02
