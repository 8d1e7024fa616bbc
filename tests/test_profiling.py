"""A profile counts what the kernels do: operations and bytes by formulas of the shapes, times that add up."""

import numpy as np
import pytest

import minivae as mv
from minivae.kernels.cpu import conv
from minivae.kernels.cpu.gemm import dense_vjp, gemm
from minivae.plots.roofline import roofline
from minivae.profiling import Line, Profile, profile
from minivae.training import Adam

R = np.random.default_rng(0)


def numbers(*shape):
    return R.normal(size=shape).astype(np.float32)


def only(step, kernel):
    (line,) = [line for line in profile(step, 3).lines if line.kernel == kernel]
    return line


def test_products_are_counted():
    """Two operations a multiply-add."""
    a, b = numbers(50, 70), numbers(70, 30)
    line = only(lambda: gemm(a, b), "gemm")
    assert line.flops == 2 * 50 * 70 * 30
    assert line.bytes == 4 * (50 * 70 + 70 * 30 + 50 * 30)
    assert 0 < line.best <= line.seconds
    y = gemm(a, b)
    assert only(lambda: dense_vjp(y, a, b, y, None, (True, True, True)), "dense_vjp").flops == 2 * 2 * 50 * 70 * 30
    assert only(lambda: dense_vjp(y, a, b, y, None, (False, True, True)), "dense_vjp").flops == 2 * 50 * 70 * 30
    x, w = numbers(6, 12, 10, 16), numbers(3, 3, 16, 24)
    same = ((1, 1), (1, 1))
    g = conv.conv2d_forward(x, w, None, (1, 1), same)
    expected = 2 * 6 * 12 * 10 * 16 * 24 * 9
    assert only(lambda: conv.conv2d_forward(x, w, None, (1, 1), same), "correlate").flops == expected
    assert only(lambda: conv.conv2d_input_gradient(g, w, x.shape, (1, 1), same), "correlate").flops == expected
    assert only(lambda: conv.conv2d_weight_gradient(x, g, (3, 3), (1, 1), same), "weight_gradient").flops == expected


def test_the_bytes_of_adam_and_a_users_own_step():
    model = mv.VAE((8, 8, 1), mv.Stream(0), latent=2, hidden=[16])
    params, noise, x = model.parameters(), mv.Stream(1), (numbers(10, 8, 8, 1) > 0).astype(np.float32)
    optimizer, recorded = Adam(params), mv.captured(lambda x: mv.elbo(model, x, noise).loss, params)

    def step():
        optimizer.step(recorded(x)[1])

    found = profile(step, 5)
    (adam,) = [line for line in found.lines if line.kernel == "adam"]
    assert adam.bytes == 28 * sum(p.size for p in params)
    assert found.rest >= 0
    assert sum(line.seconds for line in found.lines) < 2 * found.seconds
    assert "between the kernels" in str(found)
    assert str(found).count("\n") < 30


def test_a_step_that_does_something_else_each_time_is_refused():
    a, calls = numbers(5, 5), []

    def step():
        calls.append(1)
        for _ in range(len(calls)):
            gemm(a, a)

    with pytest.raises(mv.UsageError, match="profile: one step called 6 kernels, another 7"):
        profile(step, 2)


def test_the_floor_is_the_longer_of_arithmetic_and_memory():
    found = Profile((), 1.0, peak=100.0, bandwidth=10.0)
    assert found.floor(Line(0, "k", "", 1, 1, flops=200, bytes=10)) == 2
    assert found.floor(Line(0, "k", "", 1, 1, flops=200, bytes=50)) == 5


def test_the_roofline_shows_each_product_once():
    lines = tuple(Line(n, "gemm", "50x70", 0.2, 0.1, 10**9 * 2**n, 10**8) for n in range(3))
    figure = roofline(Profile((*lines, Line(3, "adam", "9", 0.1, 0.1, 0, 10**6)), 1.0, 1e11, 1e10), "a step")
    (ax,) = figure.axes
    assert len(ax.collections[0].get_offsets()) == 3
    x, y = ax.lines[0].get_data()
    assert y.max() == 100  # GFLOP/s
    np.testing.assert_allclose(y[0] / x[0], 10)  # GB/s
