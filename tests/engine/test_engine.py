"""The engine's laws: one sweep, no recursion, gradients shaped like their params, no state but the graph."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minivae import Op, ShapeError, Tensor, gradients, no_grad, ops, stop_gradient
from minivae.engine import unbroadcast

pairs = hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3, max_dims=4)


def assert_gradients(loss, params, expected, **options):
    for found, exact in zip(gradients(loss, params, **options), expected, strict=True):
        np.testing.assert_array_equal(found, exact)


# --- the sweep ---


def test_a_diamond_has_2_to_the_60_paths_and_60_nodes():
    x = Tensor(np.array(1.0))
    y = x
    for _ in range(60):
        y = y + y
    start = time.perf_counter()
    (g,) = gradients(y, [x])
    assert time.perf_counter() - start < 1  # milliseconds, unless each path is walked
    assert g == 2.0**60


def test_every_vjp_runs_once_and_after_all_its_consumers():
    calls = []

    def vjp(g, name):
        calls.append((name, float(g)))
        return (g,)

    tagged = Op("test_tagged", numpy=(lambda x, name: (x * 1, (name,)), vjp))
    x = Tensor(np.array(3.0))
    a = tagged(x, name="a")
    b = tagged(a, name="b")
    c = tagged(a, name="c")
    early = tagged(a, name="early")  # made before d, whose gradient passes through b and c
    d = tagged(b + c, name="d")
    assert_gradients(d * 2.0 + early, [x], [5])
    assert sorted(name for name, _ in calls) == ["a", "b", "c", "d", "early"]
    assert calls[-1] == ("a", 5)
    del Op.registry["test_tagged"]


def test_a_chain_longer_than_the_stack():
    x = Tensor(np.array(0.5))
    y = x
    for _ in range(10_000):
        y = y + 1.0
    assert_gradients(y * x, [x], [10_001.0])  # (x + n) x


def test_a_long_graph_is_freed_without_recursion():
    code = """
import gc, weakref
import numpy as np
from minivae import Tensor, gradients
x = Tensor(np.array(0.5))
y = x
for _ in range(200_000):
    y = y + x
seen = weakref.ref(y)
assert gradients(y, [x])[0] == 200_001
del y
assert seen() is None, "a graph must not wait for the collector of cycles"
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr[-2000:]


def test_only_nodes_between_loss_and_params_are_kept_by_the_graph():
    """The same gradients twice, and for other params: the sweep leaves the graph as it was."""
    x, w = Tensor(np.array([1.0, 2.0])), Tensor(np.array([3.0, 4.0]))
    h = x * w
    loss = (h * h).sum()
    for _ in range(2):
        assert_gradients(loss, [x, w], [[18, 64], [6, 32]])
        assert_gradients(loss, [h], [[6, 16]])
        assert_gradients(loss, [loss, h, x], [1, [6, 16], [18, 64]])


def test_params_twice_and_params_elsewhere():
    x, elsewhere = Tensor(np.array([1.0, 2.0])), Tensor(np.zeros((2, 3), np.float32))
    loss = x.sum() * 3.0
    assert_gradients(loss, [x, elsewhere, x], [[3, 3], np.zeros((2, 3)), [3, 3]])
    assert gradients(loss, [elsewhere])[0].dtype == np.float32
    assert_gradients(loss, [stop_gradient(np.ones(2))], [[0, 0]])
    assert gradients(loss, []) == []


def test_a_gradient_is_an_array_of_the_params_shape():
    for shape in ((), (1,), (2, 3), (0,)):
        x = Tensor(np.ones(shape, np.float32))
        (g,) = gradients((x * 2.0).sum(), [x])
        assert type(g) is np.ndarray
        assert g.shape == shape
        assert g.dtype == np.float32


# --- several outputs ---


def test_an_unused_output_has_no_gradient():
    x = Tensor(np.arange(6.0).reshape(2, 3))
    a, b, c = ops.split(x, sections=3, axis=1)
    assert_gradients((a * 5.0).sum(), [x, a, b], [[[5, 0, 0]] * 2, [[5], [5]], [[0], [0]]])
    assert_gradients((a * c).sum(), [x], [[[2, 0, 0], [5, 0, 3]]])
    assert_gradients((a * c + a * a + a).sum(), [x, a], [[[3, 0, 0], [12, 0, 3]], [[3], [12]]])  # one output, four consumers
    assert_gradients(b, [x], [[[0, 7, 0], [0, 8, 0]]], cotangent=np.array([[7.0], [8.0]]))


def test_batch_norms_moments_have_gradients_of_their_own():
    x = Tensor(np.array([[1.0], [2.0], [6.0]]))
    _, mean, var = ops.batch_norm(x, Tensor(np.ones(1)), Tensor(np.zeros(1)))
    np.testing.assert_allclose(gradients(mean, [x])[0], np.full((3, 1), 1 / 3), rtol=1e-15)
    np.testing.assert_allclose(gradients(var, [x])[0], 2 / 3 * np.array([[-2.0], [-1.0], [3.0]]), rtol=1e-15)
    both = gradients(mean * 2.0 + var, [x, mean, var])
    np.testing.assert_allclose(both[0], 2 / 3 + 2 / 3 * np.array([[-2.0], [-1.0], [3.0]]), rtol=1e-15)
    assert (both[1], both[2]) == (2, 1)


# --- cutting the graph ---


def test_no_graph_and_constant():
    x = Tensor(np.array(2.0))
    with no_grad():
        y = x * x
        with no_grad():
            pass
        assert (x * x).number == 0, "the inner block must not end the outer one"
    assert y.number == 0
    assert_gradients(x * y, [x], [4])
    assert_gradients(x * stop_gradient(x), [x], [2])
    assert_gradients(x * stop_gradient(x.data), [x], [2])
    with pytest.raises(ShapeError, match="depends on no variable"):
        gradients(y, [x])
    with pytest.raises(RuntimeError), no_grad():
        raise RuntimeError
    assert (x * x).number


def test_ops_of_constants_record_nothing():
    assert ops.add(np.ones(2), 1.0).number == 0
    assert (stop_gradient(np.ones(2)) * 2.0).number == 0


def test_cotangents():
    x = Tensor(np.array([1.0, 2.0]))
    y = x * x
    assert_gradients(y, [x], [[6, -4]], cotangent=np.array([3.0, -1.0]))
    assert_gradients(y.sum(), [x], [[4, 8]], cotangent=np.array(2.0))
    with pytest.raises(ShapeError, match=r"the loss has shape \(2,\); reduce it to one number, or pass a cotangent"):
        gradients(y, [x])
    with pytest.raises(ShapeError, match=r"the cotangent is \(2, 1\), the loss is \(2,\); need equal shapes"):
        gradients(y, [x], np.ones((2, 1)))


def test_a_loss_of_one_element_needs_no_cotangent():
    x = Tensor(np.array([[3.0]]))
    assert_gradients(x * x, [x], [[[6]]])


# --- broadcasting ---


@given(shapes=pairs, seed=st.integers(0, 1000))
def test_broadcasting_is_undone_by_its_adjoint(shapes, seed):
    """<broadcast x, g> = <x, unbroadcast g>"""
    rng = np.random.default_rng(seed)
    for shape in shapes.input_shapes:
        x, g = rng.normal(size=shape), rng.normal(size=shapes.result_shape)
        back = unbroadcast(g, shape)
        assert back.shape == shape
        np.testing.assert_allclose(np.sum(np.broadcast_to(x, g.shape) * g), np.sum(x * back), rtol=1e-12, atol=1e-12)


@given(shapes=pairs, seed=st.integers(0, 1000))
def test_gradients_of_broadcast_operands(shapes, seed):
    """Each copy of an element of a meets one element of b: the gradient of sum(a b) adds those up, by hand."""
    rng = np.random.default_rng(seed)
    a, b = (Tensor(rng.normal(size=shape)) for shape in shapes.input_shapes)
    ga, gb = gradients((a * b).sum(), [a, b])
    expected = [np.zeros(a.shape), np.zeros(b.shape)]
    names = [np.broadcast_to(np.arange(t.size).reshape(t.shape), shapes.result_shape) for t in (a, b)]
    for i, j in zip(names[0].ravel(), names[1].ravel(), strict=True):
        expected[0].reshape(-1)[i] += b.data.reshape(-1)[j]
        expected[1].reshape(-1)[j] += a.data.reshape(-1)[i]
    np.testing.assert_allclose(ga, expected[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gb, expected[1], rtol=1e-12, atol=1e-12)


def test_in_place_operators_make_new_tensors():
    x = Tensor(np.array(2.0))
    y = x
    y += 1.0
    y *= x
    assert x.data == 2
    assert_gradients(y, [x], [5])  # (x + 1) x


# --- threads ---


def test_threads_do_not_see_each_others_no_graph():
    inside, done = threading.Event(), threading.Event()
    seen = {}

    def evaluate():
        with no_grad():
            inside.set()
            done.wait(10)
            seen["evaluation"] = (Tensor(1.0) * 2.0).number

    thread = threading.Thread(target=evaluate)
    thread.start()
    assert inside.wait(10)
    x = Tensor(np.array(3.0))
    assert_gradients(x * x, [x], [6])
    done.set()
    thread.join()
    assert seen["evaluation"] == 0


def test_two_threads_build_graphs_at_once():
    results, barrier = {}, threading.Barrier(2)

    def work(name, factor):
        barrier.wait(10)
        found = []
        for _ in range(50):
            x = Tensor(np.array(1.0))
            y = x
            for _ in range(30):
                y = y * factor + x
            found.append(float(gradients(y, [x])[0]))
        results[name] = found

    threads = [threading.Thread(target=work, args=(factor, float(factor))) for factor in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for factor in (2, 3):  # 1 + factor + ... + factor^30
        assert results[factor] == [(factor**31 - 1) / (factor - 1)] * 50
