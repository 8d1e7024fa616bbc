"""Random numbers, batches and Adam on the device, run on the CPU: bit-equal to minivae.random where they are integers' work."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minivae.data.dataset import to_float
from minivae.engine import Tensor
from minivae.errors import ShapeError, UsageError
from minivae.kernels.gpu import densities, step
from minivae.random import Stream
from minivae.training.optimizers import AdamW

from .host import host, needs_compiler

pytestmark = needs_compiler
EPS = 2.0**-24
COUNTERS = st.integers(0, 2**64 - 1)


def move_on(now, blocks, images):
    """As a captured step does, whose loss and gradient are sound."""
    one = np.ones(1, np.float32)
    step.tally([one, one, one], [[]], images=images, rows=now.reshape(1, 4), blocks=[blocks])


def stream(key, counter):
    s = Stream(0)
    s.set_state({"key": key, "counter": counter})
    return s


def state(blocks=0, steps=0, position=0, key=0):
    return np.array([blocks, steps, position, key], np.uint64)


@settings(max_examples=20)
@given(COUNTERS, COUNTERS, st.integers(0, 600), st.booleans())
@example(2**64 - 1, 2**64 - 2, 21, False)  # the wrap: block 2^64 is block 0
@example(2**63, 2**32 - 2, 21, True)  # the carry into the second word
def test_draws_are_those_of_a_stream(key, counter, n, on_device):
    # half of the counter and of the key in device memory, half with the launch
    there = state(counter // 2, key=key // 2) if on_device else None
    own, here = (key - key // 2, counter - counter // 2) if on_device else (key, counter)
    words, uniform, normal = host(
        lambda: [step.words(own, here, n, there), step.uniform(own, here, (n,), there), step.normal(own, here, (n,), there)]
    )
    assert_array_equal(words, stream(key, counter).words(n))
    assert_array_equal(uniform, stream(key, counter).uniform(n))
    # log1p, sqrt, cos and sin to 2 units each, the angle off by 2 pi eps, the radius at most 5.8
    exact = stream(key, counter).normal(n).astype(np.float64)
    assert_allclose(normal, exact, rtol=0, atol=5.8 * (8 + 2 * np.pi) * EPS)


@given(st.integers(0, 100))
def test_a_draw_takes_as_many_blocks_as_a_stream_moves_on(n):
    s = Stream(1)
    s.uniform(n)
    assert s.counter == step.uniform_blocks(n)
    s.normal(n)
    assert s.counter == step.uniform_blocks(n) + step.normal_blocks(n)


@settings(max_examples=10)
@given(st.integers(0, 20), st.integers(0, 50))
def test_sampling_and_divergence_in_one_pass_are_the_two_in_two(n, k):
    rng = np.random.default_rng(7)
    mean, logvar, eps = rng.normal(size=(3, n, k)).astype(np.float32)
    z, kl = host(lambda: densities.sample_and_kl_forward(mean, logvar, eps)[0])
    assert_array_equal(z, host(lambda: densities.reparameterize_forward(mean, logvar, eps)[0]))
    assert_array_equal(kl, host(lambda: densities.gaussian_kl_standard_forward(mean, logvar)[0]))


def test_a_step_moves_on_in_device_memory():
    def two_steps():
        now = state(2**40, 6, 96)
        draws = []
        for _ in range(2):
            draws += [step.uniform(5, 0, (9,), now), step.normal(5, 3, (7,), now)]
            move_on(now, step.uniform_blocks(9) + step.normal_blocks(7), 32)
        return now, *draws

    now, *draws = host(two_steps)
    assert_array_equal(now, [2**40 + 2 * (3 + 2), 8, 160, 0])
    s = stream(5, 2**40)
    for i in range(2):
        assert_array_equal(draws[2 * i], s.uniform(9))
        assert_allclose(draws[2 * i + 1], s.normal(7), atol=1e-5)


@settings(max_examples=10)
@given(st.integers(1, 9), st.integers(0, 12), st.integers(0, 9), st.integers(0, 2**32))
def test_a_batch_is_gathered_and_rounded_as_on_the_cpu(count, rows, first, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 4, 3, 2), np.uint8)
    order = rng.integers(0, count, 11)
    there = state(position=first)
    (here, index), (from_device, also) = host(lambda: [step.gather(images, order, rows, first), step.gather(images, order, rows, 0, there)])
    assert_array_equal(index, order[(first + np.arange(rows)) % 11])
    assert_array_equal(index, also)
    assert_array_equal(here, to_float(images[index]))
    assert_array_equal(here, from_device)


def test_an_index_that_is_no_image_shows():
    images = np.zeros((3, 2), np.uint8)
    batch, _ = host(lambda: step.gather(images, np.array([0, 3, -1, 2]), 4))
    assert_array_equal(np.isnan(batch).all(axis=1), [False, True, True, False])


def test_a_gather_from_nothing_is_refused():
    with pytest.raises(ShapeError, match="2 images of a data set of 0"):
        host(lambda: step.gather(np.zeros((0, 4), np.uint8), np.zeros(3, np.int64), 2))


@settings(max_examples=8)
@given(st.lists(st.integers(1, 1500), min_size=1, max_size=4), st.integers(0, 2**32), st.floats(0, 0.1))
@example([5] * 70, 1, 0.01)  # more tensors than one table holds
def test_adam_is_the_optimizer_in_float64(sizes, seed, decay):
    rng = np.random.default_rng(seed)
    starts = [rng.normal(size=n).astype(np.float32) for n in sizes]
    gradients = [[rng.normal(size=n).astype(np.float32) for n in sizes] for _ in range(3)]
    exact = AdamW([Tensor(x.astype(np.float64)) for x in starts], lr=1e-2, weight_decay=decay)
    for g in gradients:
        exact.step([part.astype(np.float64) for part in g])

    def ours():
        single = AdamW([Tensor(x.copy()) for x in starts])
        now, rate = state(), np.array([1e-2], np.float32)
        for g in gradients:
            move_on(now, 0, 0)
            step.adam(now, rate, (single.flat, single.m, single.v), single.slices, g, (0.9, 0.999), 1e-8, decay)
        return single.flat, single.m, single.v

    p, m, v = host(ours)
    largest = max(abs(part).max() for g in gradients for part in g)
    assert_allclose(m, exact.m, atol=12 * EPS * largest)
    assert_allclose(v, exact.v, rtol=24 * EPS)
    # a step is about lr, its numerator cancels: its error is that of m over the smallest sqrt(v')
    steps = 3 * 1e-2 * 40 * EPS * (1 + largest / np.sqrt(np.min(exact.v[exact.v > 0]) / 0.003))
    assert_allclose(p, exact.flat, rtol=8 * EPS, atol=steps)


def test_adam_writes_nothing_between_the_parameters():
    single = AdamW([Tensor(np.ones(5, np.float32)), Tensor(np.ones(7, np.float32))])
    single.flat[5:16] = 77
    g = [np.ones(5, np.float32), np.ones(7, np.float32)]
    host(lambda: step.adam(state(), np.ones(1, np.float32), (single.flat, single.m, single.v), single.slices, g, (0.9, 0.999), 1e-8, 0.1))
    assert (single.flat[5:16] == 77).all()


def test_adam_refuses_gradients_that_do_not_fit():
    flat = tuple(np.zeros(16, np.float32) for _ in range(3))
    with pytest.raises(ShapeError, match="1 gradients for 2 parameters"):
        step.adam(state(), flat[0], flat, [slice(0, 3), slice(3, 4)], [np.zeros(3, np.float32)], (0.9, 0.999), 1e-8, 0.0)
    with pytest.raises(ShapeError, match=r"a gradient of \(2,\) for 3 parameters"):
        step.adam(state(), flat[0], flat, [slice(0, 3)], [np.zeros(2, np.float32)], (0.9, 0.999), 1e-8, 0.0)


@settings(max_examples=10)
@given(st.lists(st.integers(0, 3000), max_size=3), st.integers(1, 600), st.integers(1, 600), st.integers(0, 2**32))
@example([5] * 70, 1, 1, 1)  # more tensors than one table holds
def test_a_tally_is_means_and_a_norm(sizes, n, m, seed):
    rng = np.random.default_rng(seed)
    gs, (likelihood, kl) = [rng.normal(size=k).astype(np.float32) for k in sizes], (rng.normal(size=k).astype(np.float32) for k in (n, m))
    loss, totals = np.array([3.25], np.float32), np.array([1.0, 2.0, 3.0, 4.0])

    def tallied():
        added = totals.copy()
        return *step.tally([loss, likelihood, kl], [gs], added, 7), added

    measures, health, squares, added = host(tallied)
    norm = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in gs))
    exact = [3.25, likelihood.mean(dtype=np.float64), kl.mean(dtype=np.float64), norm]
    assert_allclose(squares, [norm**2], rtol=1e-13)
    # sums in double: what is left is one rounding, and the cancellation of the means
    assert_allclose(measures, exact, rtol=2 * EPS, atol=1e-15)
    assert health == [0]
    assert_array_equal(added, totals + 7 * measures.astype(np.float64))


def test_a_tally_of_players_is_of_all_of_them():
    rng = np.random.default_rng(0)
    gs = [[rng.normal(size=n).astype(np.float32) for n in sizes] for sizes in ((1500, 3), (5,) * 70, (9,))]
    values, rows = [rng.normal(size=n).astype(np.float32) for n in (1, 40, 700)], np.arange(12, dtype=np.uint64).reshape(3, 4)

    def tallied():
        now, totals = rows.copy(), np.zeros(6)
        return *step.tally(values, gs, totals, 7, now, [10, 20], (0, 2)), totals, now

    measures, health, squares, totals, now = host(tallied)
    norms = [np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in own)) for own in gs]
    assert_allclose(measures, [*(v.mean(dtype=np.float64) for v in values), *norms], rtol=2 * EPS, atol=1e-9)
    assert_allclose(squares, np.square(norms), rtol=1e-13)
    assert health == [0]
    assert_array_equal(totals, 7 * measures.astype(np.float64))
    assert_array_equal(now - rows, [[10, 1, 7, 0], [20, 0, 7, 0], [0, 1, 7, 0]])


@pytest.mark.parametrize("player", range(3))
def test_a_gradient_of_any_player_that_is_not_finite_moves_none(player):
    gs = [[np.ones(5, np.float32)] for _ in range(3)]
    gs[player][0][3] = np.nan
    one = np.ones(1, np.float32)

    def tallied():
        now, totals = np.zeros((3, 4), np.uint64), np.zeros(4)
        _, health, _ = step.tally([one], gs, totals, 7, now, [1], (0, 1, 2))
        return health, now, totals

    health, now, totals = host(tallied)
    assert np.isnan(health).all()
    assert not now.any()
    assert not totals.any()


def test_more_than_a_tally_holds_is_refused():
    one = np.ones(1, np.float32)
    with pytest.raises(UsageError, match="tells of 25 numbers; a kernel takes the means of at most 24"):
        step.tally([one] * 25, [[one]])
    with pytest.raises(UsageError, match="gradients of 9 players; need 1 to 8"):
        step.tally([one], [[one]] * 9)
    with pytest.raises(UsageError, match="draws from 65 streams"):
        host(lambda: step.tally([one], [[one]], rows=np.zeros((65, 4), np.uint64), blocks=[1] * 65))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["loss", "report", "gradient"])
def test_what_is_not_finite_moves_nothing(bad, where):
    loss, g = np.ones(1, np.float32), np.ones(5, np.float32)
    report = g.copy()
    {"loss": loss, "report": report, "gradient": g[2:]}[where][0] = bad

    def one():
        single, now, totals = AdamW([Tensor(np.ones(5, np.float32))]), state(1, 2, 3, 4), np.ones(3)
        _, health, _ = step.tally([loss, report], [[g]], totals, 7, now.reshape(1, 4), [5])
        step.adam(now, np.ones(1, np.float32), (single.flat, single.m, single.v), single.slices, [g], (0.9, 0.999), 1e-8, 0.1, health)
        return health, now, totals, single.flat[:5].copy(), single.m, single.v

    health, now, totals, p, m, v = host(one)
    assert np.isnan(health).all()
    assert_array_equal(now, [1, 2, 3, 4])
    assert_array_equal(totals, np.ones(3))
    assert_array_equal(p, np.ones(5))
    assert not m.any()
    assert not v.any()


def test_a_norm_beyond_float32_is_no_sound_step():
    g = np.full(4, 3e38, np.float32)
    measures, health, _ = host(lambda: step.tally([g[:1], g, g], [[g]]))
    assert measures[3] == np.inf
    assert np.isnan(health).all()
    assert measures[1] == np.float32(3e38)  # a mean of which the sum in float32 would be infinite
