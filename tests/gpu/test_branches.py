"""What takes another way on a GPU: pixels of 8 bits that are no level are NaN; an order compares all pairs."""

import numpy as np
import pytest

from minivae.distributions import BetaBinomial, DiscretizedLogistic
from minivae.objectives.factor import in_order_of

from .host import needs_compiler
from .host.fake_cupy import installed

pytestmark = needs_compiler


@pytest.mark.parametrize("kind", [BetaBinomial, DiscretizedLogistic])
def test_levels_on_a_gpu_are_those_of_the_cpu_and_others_are_nan(monkeypatch, kind):
    first, second = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    x = (np.random.default_rng(1).integers(0, 256, (3, 4)) / 255).astype(np.float32)
    expected = kind(first, second).log_prob(x).data
    with installed(monkeypatch) as cupy:
        x = np.concatenate([x, [[0.5, 0, 0, 0], [0, 0, 0, 256 / 255], [-1 / 255, 0, 0, 0]]]).astype(np.float32)
        there = [cupy.asarray(np.concatenate([a, a])) for a in (first, second)]
        found = kind(*there).log_prob(cupy.asarray(x)).data.get()
    np.testing.assert_allclose(found[:3], expected, rtol=1e-5)
    assert np.isnan(found[3:]).all()


@pytest.mark.parametrize("n", [1, 2, 50])
def test_an_order_on_a_gpu_is_that_of_the_cpu(monkeypatch, n):
    rng = np.random.default_rng(n)
    z, u = rng.normal(size=(n, 3)).astype(np.float32), (rng.integers(0, 20, (n, 3)) / 20).astype(np.float32)  # with ties
    expected = in_order_of(z, u)
    with installed(monkeypatch) as cupy:
        found = in_order_of(cupy.asarray(z), cupy.asarray(u)).get()
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(expected[:, 0], z[np.argsort(u[:, 0], kind="stable"), 0])
