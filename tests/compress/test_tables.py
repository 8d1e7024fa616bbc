"""The functions that every machine makes alike: against SciPy and the C library, to some units of rounding; and what tables must be."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal

from minivae.compress import tables

X = np.concatenate([np.linspace(-60, 60, 20001), [0.0, -1e-12, 1e-12]])


@pytest.mark.parametrize(
    ("function", "judge"),
    [
        (tables.exp, np.exp),
        (tables.sigmoid, scipy.special.expit),
        (tables.softplus, lambda x: np.logaddexp(0, x)),
    ],
)
def test_functions_to_some_units(function, judge):
    assert_allclose(function(X), judge(X), rtol=2e-15)


def test_tanh_and_the_normal_distribution():
    assert_allclose(tables.tanh(X), np.tanh(X), atol=1e-15)
    t = np.linspace(-8, 8, 5001)
    assert_allclose(tables.normal_cdf(t), scipy.stats.norm.cdf(t), atol=2e-15)


@pytest.mark.parametrize("table", [tables.normal_table, tables.logistic_table])
def test_distribution_functions_rise_from_nothing_to_all(table):
    assert table()[0] == 0
    assert table()[-1] == table()[-2] == 1 << tables.UNIT
    assert (np.diff(table()) >= 0).all()


@pytest.mark.parametrize("bits", [1, 2, 5, 12])
def test_bins_have_equal_mass(bits):
    """Edges are rounded down to 2^-16: Phi at the edge is at most i / 2^bits, and at the next number of the grid it is more."""
    edges, centres = tables.bin_edges(bits), tables.bin_centres(bits)
    i = np.arange(1, 1 << bits)
    upper = i >= 1 << (bits - 1)
    inner = edges[1:-1]
    assert (scipy.stats.norm.cdf(inner[upper] / 2**16) <= i[upper] / 2**bits + 1e-12).all()
    assert (scipy.stats.norm.cdf((inner[upper] + 1) / 2**16) > i[upper] / 2**bits - 1e-12).all()
    assert_array_equal(inner, -inner[::-1])
    assert (edges[:-1] < centres).all()
    assert (centres < edges[1:]).all()


@pytest.mark.parametrize("precision", [1, 8, 16])
def test_every_pixel_can_be_said(precision):
    ones = tables.bernoulli_table(16, precision)
    assert ones.min() >= 1
    assert ones.max() <= (1 << precision) - 1
    assert (np.diff(ones) >= 0).all()
