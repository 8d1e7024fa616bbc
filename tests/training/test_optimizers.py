"""Optimizers, against their papers' recurrences written out number by number, and against what they must achieve."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minivae as mv
from minivae.errors import ShapeError, UsageError
from minivae.objectives import Progress, kl_scale
from minivae.training.optimizers import SGD, Adam, AdamW, clip_gradients, gradient_norm
from minivae.training.schedules import learning_rate


def params(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [mv.Tensor(rng.normal(size=shape).astype(dtype)) for shape in ((3, 5), (), (17,), (0, 4))]


def grads(step, dtype=np.float64):
    rng = np.random.default_rng(step)
    return [rng.normal(size=shape).astype(dtype) for shape in ((3, 5), (), (17,), (0, 4))]


def adam_by_hand(p: float, gs: list[float], lr: float, b1: float, b2: float, eps: float, decay: float) -> float:
    m = v = 0.0
    for t, g in enumerate(gs, 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        p = p - lr * decay * p - lr * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + eps)
    return p


@pytest.mark.parametrize(("rule", "decay"), [(Adam, 0.0), (AdamW, 0.1)])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_adam_follows_the_paper(rule, decay, dtype, rtol):
    ps = params(dtype)
    start = [p.data.copy() for p in ps]
    optimizer = rule(ps, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=decay)
    steps = [grads(i, dtype) for i in range(7)]
    for gs in steps:
        optimizer.step(gs)
    for k, p in enumerate(ps):
        for index in np.ndindex(p.shape):
            expected = adam_by_hand(float(start[k][index]), [float(gs[k][index]) for gs in steps], 0.01, 0.8, 0.95, 1e-6, decay)
            np.testing.assert_allclose(p.data[index], expected, rtol=rtol, atol=rtol)


def test_sgd_with_momentum_follows_its_recurrence():
    ps = params()
    start = [p.data.copy() for p in ps]
    optimizer = SGD(ps, lr=0.1, momentum=0.9)
    for i in range(5):
        optimizer.step(grads(i))
    for k, p in enumerate(ps):
        # p_n = p_0 - lr sum_i g_i (1 + 0.9 + ... + 0.9^(n - i))
        total = sum(grads(i)[k] * sum(0.9**j for j in range(5 - i)) for i in range(5))
        np.testing.assert_allclose(p.data, start[k] - 0.1 * total, rtol=1e-12)


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1, 0.5), lambda p: Adam(p, 0.1), lambda p: AdamW(p, 0.1)])
def test_every_rule_finds_the_bottom_of_a_bowl(make):
    x = mv.Tensor(np.array([3.0, -2.0, 0.5]))
    target = np.array([1.0, 2.0, 3.0])
    optimizer = make([x])
    for _ in range(400):
        d = x - target
        optimizer.step(mv.gradients((d * d).sum(), [x]))
    np.testing.assert_allclose(x.data, target, atol=0.05)


def test_parameters_become_views_of_one_array_and_state_round_trips():
    ps = params()
    optimizer = Adam(ps, 0.1)
    assert all(np.shares_memory(p.data, optimizer.flat) for p in ps if p.size)
    optimizer.step(grads(0))
    state, values = optimizer.state(), [p.data.copy() for p in ps]
    optimizer.step(grads(1))
    after = [p.data.copy() for p in ps]
    for p, v in zip(ps, values, strict=True):
        p.data[...] = v
    optimizer.load_state(state)
    optimizer.step(grads(1))
    for p, v in zip(ps, after, strict=True):
        np.testing.assert_array_equal(p.data, v)


def test_optimizers_refuse_what_does_not_fit():
    with pytest.raises(UsageError, match="no parameters"):
        Adam([], 0.1)
    with pytest.raises(UsageError, match="learning rate is -1"):
        Adam(params(), -1)
    with pytest.raises(UsageError, match="betas are"):
        Adam(params(), 0.1, betas=(1.0, 0.9))
    with pytest.raises(UsageError, match="momentum is 1"):
        SGD(params(), 0.1, momentum=1)
    with pytest.raises(ShapeError, match="3 gradients for 4 parameters"):
        Adam(params(), 0.1).step(grads(0)[:3])
    with pytest.raises(ShapeError, match="float32 and float64"):
        Adam([mv.Tensor(np.zeros(2)), mv.Tensor(np.zeros(2, np.float32))], 0.1)
    with pytest.raises(ShapeError, match="no 'm' of shape"):
        Adam(params(), 0.1).load_state(SGD(params(), 0.1).state())


@given(st.floats(1e-3, 1e3))
def test_clipping_bounds_the_norm_and_keeps_the_direction(limit):
    gs = grads(0)
    clipped = clip_gradients(gs, limit)
    norm = gradient_norm(gs)
    np.testing.assert_allclose(norm, np.linalg.norm(np.concatenate([g.ravel() for g in gs])), rtol=1e-12)
    np.testing.assert_allclose(gradient_norm(clipped), min(norm, limit), rtol=1e-12)
    for g, c in zip(gs, clipped, strict=True):
        np.testing.assert_allclose(c, g * min(1, limit / norm), rtol=1e-12)


def test_schedules():
    rates = [learning_rate("cosine", i, 100, 10) for i in range(101)]
    assert 0 < rates[0] < rates[9] < 1 == rates[10]
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-15)
    assert [learning_rate("constant", i, 5) for i in range(5)] == [1.0] * 5
    steps = [kl_scale(Progress(np.float32(i / 4), ("model",), 1), 1.0).item() for i in range(6)]
    assert steps == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert kl_scale(Progress(np.float32(0), ("model",), 1), 0.0) == 1.0
    with pytest.raises(UsageError, match="'linear' is unknown"):
        learning_rate("linear", 0, 1)
