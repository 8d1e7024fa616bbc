"""Networks in integers: near the model's floats, the same bits in any order and any batch, and refused where sums might be rounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minivae import VAE, Stream, UsageError, nn, use_backend
from minivae.compress import portable
from minivae.compress.portable import STANDARD, TABLES, Portable, activated, product
from minivae.nn.layers import ACTIVATIONS

WEIGHT, ACTIVATION, SUM, LIMIT = STANDARD.weight, STANDARD.activation, STANDARD.sum, STANDARD.limit


def integers(shape, seed=0, spread=2.0):
    return np.rint(np.random.default_rng(seed).normal(size=shape) * spread * 2**ACTIVATION)


def networks(shape=(9, 8, 3), **options):
    model = VAE(shape, Stream(0), latent=3, hidden=(7,), **options)
    return (model.encoder, shape), (model.decoder, (3,))


@pytest.mark.parametrize("options", [{}, {"arch": "conv"}, {"arch": "conv", "channels": (4, 5)}, {"likelihood": "beta_binomial"}], ids=str)
def test_integers_are_near_the_floats(options):
    """Each layer's sums are off by a rounded input, 2^-9, and rounded weights, 2^-13, times their number: 0.05 is ample."""
    for network, shape in networks(**options):
        a = integers((5, *shape))
        floats = network((a / 2**ACTIVATION).astype(np.float32)).numpy()
        assert_allclose(Portable(network)(a) / 2**SUM, floats, atol=0.05)


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name])
def test_activations_are_near_the_functions(activation):
    a = np.concatenate([np.arange(-9000.0, 9000), [-LIMIT, LIMIT, -8193, 8193]])
    exact = ACTIVATIONS[activation]((a / 2**ACTIVATION).astype(np.float64)).numpy()
    assert abs(activated(a, activation) / 2**ACTIVATION - exact).max() <= 2.0**-ACTIVATION
    assert activation in TABLES


@given(st.integers(0, 2**32 - 1), st.sampled_from(["dense", "conv"]))
def test_the_same_bits_in_any_order_and_batch(seed, arch):
    """Images one by one, and the sums of a dense layer backwards, in another precision of the sum's order."""
    for network, shape in networks(arch=arch, activation="tanh"):
        net, a = Portable(network), integers((4, *shape), seed)
        whole = net(a)
        assert_array_equal(np.concatenate([net(row[None]) for row in a]), whole)
        assert_array_equal(whole, np.rint(whole))
        with use_backend("numpy"):  # a BLAS
            assert_array_equal(net(a), whole)
    w, a = integers((50, 6), seed), integers((3, 50), seed + 1)
    exact = [[sum(int(x) * int(y) for x, y in zip(row, column, strict=True)) for column in w.T] for row in a]
    for backend in ("numpy", "numba"):
        with use_backend(backend):
            assert_array_equal(product(a, w), np.array(exact, float))


def test_the_largest_sums_are_still_exact():
    """All inputs at the limit: Python's integers say the same as the float64 sums."""
    layer = nn.Dense(64, 2, Stream(0))
    layer.w.data[...] = np.random.default_rng(0).uniform(-1000, 1000, (64, 2))
    net, a = Portable(layer), np.where(integers((5, 64)) > 0, LIMIT, -LIMIT)
    w, b = portable.to_integers(layer.w.data, WEIGHT, "w"), portable.to_integers(layer.b.data, SUM, "b")
    exact = [[sum(int(x) * int(y) for x, y in zip(row, w[:, o], strict=True)) + int(b[o]) for o in range(2)] for row in a]
    assert [[int(v) for v in row] for row in net(a)] == exact


@pytest.mark.parametrize("least", [None, 0.0])
def test_rounding_by_kernel_and_by_reference(least):
    """Halves up, and beyond the limit the limit; with a relu behind nothing is below 0.  Judged by Python's integers."""
    unit = 1 << WEIGHT
    sums = [k * unit + part for k in (-3, -1, 0, 2) for part in (-unit // 2, -1, 0, 1, unit // 2)] + [10**15, -(10**15)]
    low = -int(LIMIT) if least is None else 0
    expected = [min(max((2 * y + unit) // (2 * unit), low), int(LIMIT)) for y in sums]
    for backend in ("numpy", "numba"):
        with use_backend(backend):
            assert portable.rounded(np.array([sums], float), least=least).tolist() == [expected]


def test_batch_norm_dropout_and_activations_as_layers():
    rng = Stream(0)
    norm = nn.BatchNorm(6)
    norm.running_mean[...], norm.running_var[...] = 0.3, 2.0
    network = nn.Sequential(nn.Dense(4, 6, rng), norm, nn.Activation("silu"), nn.Dropout(0.5, Stream(1)), nn.Dense(6, 2, rng))
    network.train(False)
    a = integers((5, 4))
    assert_allclose(Portable(network)(a) / 2**SUM, network((a / 2**ACTIVATION).astype(np.float32)).numpy(), atol=0.05)


def test_a_weight_changes_the_digest():
    (network, _), _ = networks()
    before = Portable(network).digest.hexdigest()
    assert Portable(network).digest.hexdigest() == before
    network.layers[1].w.data[0, 0] += 0.01
    assert Portable(network).digest.hexdigest() != before


class Own(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (lambda: nn.Sequential(nn.Dense(2, 2, Stream(0)), Own()), "network.layers.1 is a Own, and integers are made of Dense, "),
        (lambda: nn.GRU(2, 2, Stream(0)), "network is a GRU, and integers"),
        (lambda: nn.Dense(2, 2, Stream(0), "relu"), "network must end in a layer with weights and without an activation"),
        (lambda: nn.Flatten(), "network must end in"),
        (lambda: nn.Dense(2, 2, Stream(0), lambda x: x), "the activation is a function of yours, of which there is no table"),
    ],
)
def test_what_has_no_integers_is_refused(network, sentence):
    with pytest.raises(UsageError, match=sentence):
        Portable(network())


@pytest.mark.parametrize(("value", "sentence"), [(np.nan, "not finite"), (3e5, "its weights add up to .*, and sums of integers are exact")])
def test_weights_that_would_be_rounded_are_refused(value, sentence):
    layer = nn.Dense(2, 2, Stream(0))
    layer.w.data[0, 0] = value
    with pytest.raises(UsageError, match=sentence):
        Portable(layer)
