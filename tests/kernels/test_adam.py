"""Adam against algorithm 1 of Kingma & Ba in float64; sums of squares against exact ones."""

import math

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minivae.errors import ShapeError
from minivae.kernels.cpu.adam import Places, adam, sum_of_squares
from minivae.kernels.cpu.elementwise import BLOCK, PARALLEL_FROM

EPS = 2.0**-24
SMALL = [(20, 25), (20,), (3, 3, 2, 4), (), (0, 5), (7,)]
LARGE = [(300, 400), (400,), (2, BLOCK), (5, 7), (BLOCK + 1,)]


def problem(shapes, gap=3, seed=0):
    """Parameters with gaps between them, and a function that draws gradients."""
    rng = np.random.default_rng(seed)
    sizes = [math.prod(shape) for shape in shapes]
    offsets = [sum(sizes[:j]) + gap * (j + 1) for j in range(len(sizes))]
    p = rng.normal(size=sum(sizes) + gap * (len(sizes) + 1)).astype(np.float32)
    return p, offsets, lambda: [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("shapes", [SMALL, LARGE])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_five_steps_are_those_of_the_paper(shapes, weight_decay):
    p, offsets, draw = problem(shapes)
    start, m, v = p.copy(), np.zeros_like(p), np.zeros_like(p)
    exact_p, exact_m, exact_v = (a.astype(np.float64) for a in (p, m, v))
    lr, beta1, beta2, eps = 0.01, 0.9, 0.99, 1e-6
    for step in range(1, 6):
        gradients = draw()
        adam(p, m, v, gradients, offsets, lr, beta1, beta2, eps, weight_decay, step)
        for g, offset in zip(gradients, offsets, strict=True):
            at = slice(offset, offset + g.size)
            g = g.reshape(-1).astype(np.float64)
            exact_m[at] = beta1 * exact_m[at] + (1 - beta1) * g
            exact_v[at] = beta2 * exact_v[at] + (1 - beta2) * g**2
            m_hat, v_hat = exact_m[at] / (1 - beta1**step), exact_v[at] / (1 - beta2**step)
            exact_p[at] = exact_p[at] - lr * m_hat / (np.sqrt(v_hat) + eps) - lr * weight_decay * exact_p[at]
    # a step rounds the constants, two products and a sum: some 5 EPS each, on terms of the size of the largest gradients (below 6)
    assert_allclose(m, exact_m, rtol=0, atol=5 * 5 * EPS * 6)
    assert_allclose(v, exact_v, rtol=5 * 5 * EPS, atol=1e-12)
    # sqrt(v_hat) >= 0.44 max |g| over the five steps, so that an error of 10 EPS max |g| in m moves p by 25 EPS lr, and 10 EPS in sqrt(v)
    # by as much; then three roundings of p a step
    moved = np.abs(exact_p - start)
    assert np.all(np.abs(p - exact_p) <= 5 * (50 * EPS * lr + 3 * EPS * (np.abs(start) + moved)))
    gaps = np.ones(p.size, bool)
    for shape, offset in zip(shapes, offsets, strict=True):
        gaps[offset : offset + math.prod(shape)] = False
    assert_array_equal(p[gaps], start[gaps])
    assert_array_equal(m[gaps], 0)


def test_the_first_step_is_lr_long_in_the_direction_of_the_sign():
    p, offsets, draw = problem(LARGE)
    start, gradients = p.copy(), draw()
    adam(p, np.zeros_like(p), np.zeros_like(p), gradients, offsets, lr=0.5, eps=0.0)
    for g, offset in zip(gradients, offsets, strict=True):
        at = slice(offset, offset + g.size)
        assert_allclose(p[at] - start[at], -0.5 * np.sign(g.reshape(-1)), rtol=0, atol=8 * EPS * 6)


def test_places_are_looked_at_again_when_an_array_is_another():
    """The same arrays twice, new numbers in them, one array replaced, others of the same sizes, copies: each as if nobody remembered."""
    p, offsets, draw = problem(SMALL)
    q = p.copy()
    (m, v), (n, w) = np.zeros((2, 2, p.size), np.float32)
    places, gradients = Places(offsets), draw()
    for step in range(1, 9):
        if step == 3:
            for g, new in zip(gradients, draw(), strict=True):
                g[...] = new
        elif step == 4:
            gradients[1] = draw()[1]
        elif step in (5, 6):
            gradients = draw()  # where the last ones lay, perhaps
        elif step == 7:
            gradients = [np.asfortranarray(g) for g in draw()]  # copied anew in each step
        elif step == 8:
            for g, new in zip(gradients, draw(), strict=True):
                g[...] = new
        adam(p, m, v, gradients, places, 0.01, step=step)
        adam(q, n, w, [g.copy() for g in gradients], offsets, 0.01, step=step)
        assert_array_equal(p, q)


def test_gradients_may_be_strided():
    """Two of one size: were the first one's copy freed too early, the second one's would take its place in memory."""
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=(10, 6)).astype(np.float32).T for _ in range(2)]
    p, q = (np.zeros((3, 120), np.float32) for _ in range(2))
    adam(*p, gradients, [0, 60], 0.1)
    adam(*q, [g.copy() for g in gradients], [0, 60], 0.1)
    assert_array_equal(p, q)
    assert_allclose(p[1, :60], 0.1 * gradients[0].reshape(-1), rtol=4 * EPS)


def test_nan_reaches_the_parameter():
    p, m, v = np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    adam(p, m, v, [np.array([1, np.nan, 1], np.float32)], [0], 0.1)
    assert np.isnan(p).tolist() == [False, True, False]


def test_nothing_to_do():
    p = np.ones(4, np.float32)
    adam(p, p.copy(), p.copy(), [], [], 0.1)
    assert_array_equal(p, 1)


def test_bits_do_not_depend_on_threads():
    def run():
        p, offsets, draw = problem(LARGE)
        m, v = np.zeros_like(p), np.zeros_like(p)
        for step in (1, 2):
            adam(p, m, v, draw(), offsets, 0.01, weight_decay=0.01, step=step)
        return p.tobytes(), m.tobytes(), v.tobytes(), sum_of_squares(p)

    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = run()
    finally:
        numba.set_num_threads(before)
    assert run() == alone


@pytest.mark.parametrize("n", [0, 1, 100, BLOCK + 1, PARALLEL_FROM + 5])
def test_sum_of_squares(n):
    x = np.random.default_rng(n).normal(size=n).astype(np.float32)
    exact = math.fsum((x.astype(np.float64) ** 2).tolist())
    assert abs(sum_of_squares(x) - exact) <= n * 2.0**-53 * exact
    assert sum_of_squares(np.full((3, 2), 1e30, np.float32)) == pytest.approx(6e60, rel=1e-6)  # past float32


def test_bad_arrays_are_refused():
    p, g = np.zeros(10, np.float32), np.ones(4, np.float32)
    with pytest.raises(ShapeError, match=r"4 numbers at offset 7 .* 10"):
        adam(p, p.copy(), p.copy(), [g], [7], 0.1)
    with pytest.raises(ShapeError, match="offset -1"):
        adam(p, p.copy(), p.copy(), [g], [-1], 0.1)
    for bad in (p[:9], p.astype(np.float64), np.zeros(20, np.float32)[::2]):
        with pytest.raises(ShapeError, match="float32"):
            adam(p, bad, p.copy(), [g], [0], 0.1)


def test_nothing_is_left_below_the_smallest_normal_number():
    """A unit that died: its m shrinks by 0.9 a step.  And gradients whose squares have no digits."""
    n = 4096 * 2 + 5
    p, m, v = (np.full(n, value, np.float32) for value in (1, 1e-3, 1e-6))
    g = np.zeros(n, np.float32)
    g[::2] = 1e-21
    for step in range(1, 1200):
        adam(p, m, v, [g], [0], 1e-3, step=step)
    tiny = np.finfo(np.float32).tiny
    assert not m[1::2].any()
    assert (m[::2] > 0).all()
    v[:] = 0
    adam(p, m, v, [g], [0], 1e-3, step=1200)
    assert ((m == 0) | (abs(m) >= tiny)).all()
    assert not v.any()
    assert np.isfinite(p).all()
