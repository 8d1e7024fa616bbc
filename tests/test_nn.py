"""Layers: shapes, names, state, moments; and the gradient of whole stacks by a complex step."""

import math

import numpy as np
import pytest

import minivae as mv
from minivae import ShapeError, Stream, Tensor, UsageError, gradients, nn, no_grad, ops
from minivae.nn import (
    ACTIVATIONS,
    FUSED,
    GDN,
    Activation,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    LayerNorm,
    Module,
    Reshape,
    Sequential,
)

NAMES = [name for name in ACTIVATIONS if name is not None]


def stack(activation, rng):
    """Every layer that is differentiable, small.     (N, 4, 5, 2) -> (N, 4, 5, 1)"""
    return Sequential(
        Conv2d(2, 3, rng, kernel=(2, 3), stride=2, padding=(0, 1), activation=activation),
        BatchNorm(3),
        Flatten(),
        Dense(18, 8, rng, activation),
        LayerNorm(8),
        Activation(activation or "tanh"),
        Reshape(2, 2, 2),
        ConvTranspose2d(2, 1, rng, kernel=3, stride=2, padding=((1, 0), (0, 1)), size=(4, 5), activation=activation),
    )


class Pair(Module):
    """Modules in attributes, lists and tuples, a bare parameter, and things that are none."""

    def __init__(self, rng):
        self.scale = Tensor(np.ones(2, np.float32))
        self.head = Dense(2, 3, rng)
        self.blocks = [BatchNorm(2), Sequential(Dense(2, 2, rng), LayerNorm(2))]
        self.ends = (Dense(1, 1, rng), "not a module", 3)
        self.label = "pair"
        self.bias = Tensor(np.zeros(1, np.float32))


PAIR_NAMES = [
    *("scale", "bias", "head.w", "head.b", "blocks.0.gamma", "blocks.0.beta"),
    *("blocks.1.layers.0.w", "blocks.1.layers.0.b", "blocks.1.layers.1.gamma", "blocks.1.layers.1.beta", "ends.0.w", "ends.0.b"),
]


# --- shapes ---


@pytest.mark.parametrize(
    ("make", "x", "y"),
    [
        (lambda rng: Dense(3, 4, rng), (2, 3), (2, 4)),
        (lambda rng: Dense(3, 4, rng), (3,), (4,)),
        (lambda rng: Dense(3, 4, rng, "silu"), (5, 2, 3), (5, 2, 4)),
        (lambda rng: Conv2d(2, 3, rng), (1, 5, 6, 2), (1, 3, 4, 3)),
        (lambda rng: Conv2d(2, 3, rng, kernel=4, stride=2, padding=1), (0, 28, 28, 2), (0, 14, 14, 3)),
        (lambda rng: Conv2d(2, 3, rng, kernel=(1, 2), stride=(3, 1), padding=((0, 1), (2, 0))), (1, 5, 6, 2), (1, 2, 7, 3)),
        (lambda rng: ConvTranspose2d(2, 3, rng, kernel=4, stride=2, padding=1), (2, 7, 7, 2), (2, 14, 14, 3)),
        (lambda rng: ConvTranspose2d(2, 3, rng, stride=2, size=(8, 9)), (2, 3, 4, 2), (2, 8, 9, 3)),
        (lambda rng: BatchNorm(3), (4, 5, 3), (4, 5, 3)),
        (lambda rng: LayerNorm(3), (4, 5, 3), (4, 5, 3)),
        (lambda rng: GDN(3), (4, 5, 3), (4, 5, 3)),
        (lambda rng: Dropout(0.5, rng), (4, 3), (4, 3)),
        (lambda rng: Activation("elu"), (4, 3), (4, 3)),
        (lambda rng: Flatten(), (4, 3, 2), (4, 6)),
        (lambda rng: Flatten(), (0, 3, 2), (0, 6)),
        (lambda rng: Flatten(), (4,), (4, 1)),
        (lambda rng: Reshape(2, 3), (4, 6), (4, 2, 3)),
        (lambda rng: Reshape(2, 3), (0, 6), (0, 2, 3)),
        (lambda rng: stack("relu", rng), (3, 4, 5, 2), (3, 4, 5, 1)),
        (lambda rng: Sequential(), (3, 4), (3, 4)),
    ],
)
def test_shapes_and_dtype(make, x, y):
    layer = make(Stream(0))
    for data in (np.ones(x, np.float32), Tensor(np.ones(x, np.float32))):
        out = layer(data)
        assert (out.shape, out.dtype) == (y, np.float32)


def test_initial_weights_are_uniform_within_lecuns_bound_and_a_function_of_the_seed():
    for layer, fan_in in (
        (Dense(400, 30, Stream(1)), 400),
        (Conv2d(20, 30, Stream(1), kernel=(2, 3)), 120),
        # each output pixel hears from kernel / stride pixels along each axis
        (ConvTranspose2d(20, 30, Stream(1), kernel=4, stride=2), 80),
        (ConvTranspose2d(20, 30, Stream(1), kernel=1, stride=2), 20),
    ):
        bound, w = 1 / math.sqrt(fan_in), layer.w.data
        assert w.dtype == np.float32
        assert abs(w).max() <= bound * (1 + 1e-6)
        # the variance of a uniform number is bound^2 / 3, that of its square 4/45 bound^4: five standard errors
        assert abs(w.astype(float).var() - bound**2 / 3) < 5 * bound**2 * math.sqrt(4 / 45 / w.size)
        assert abs(w.astype(float).mean()) < 5 * bound / math.sqrt(3 * w.size)
    first, again, other = (stack("relu", Stream(seed)).state() for seed in (1, 1, 2))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert any(np.any(first[name] != other[name]) for name in first)


def test_unknown_activations_and_rates_are_refused():
    rng = Stream(0)
    for make in (lambda: Dense(1, 1, rng, "gelu"), lambda: Conv2d(1, 1, rng, activation="gelu"), lambda: Activation("gelu")):
        with pytest.raises(UsageError, match="activation 'gelu' is unknown; choose one of None, relu"):
            make()
    for rate in (-0.1, 1.0):
        for make in (lambda: Dropout(rate, rng), lambda: ops.dropout(np.ones(2), rate, rng)):  # noqa: B023
            with pytest.raises(UsageError, match=rf"rate is {rate}; need 0 <= rate < 1"):
                make()
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        Module()(1)


def test_dense_errors_carry_the_numbers():
    with pytest.raises(ShapeError, match=r"dense: x is \(2, 5\), w is \(3, 4\); need x.shape\[-1\] == w.shape\[0\]"):
        Dense(3, 4, Stream(0))(np.ones((2, 5), np.float32))
    with pytest.raises(ShapeError, match=r"batch_norm: x is \(1, 3\); need at least 2 values per channel"):
        BatchNorm(3)(np.ones((1, 3), np.float32))
    with pytest.raises(ShapeError, match=r"batch_norm: x is \(\); need"):
        ops.batch_norm(np.ones(()), np.ones(1), np.ones(1))


# --- parameters and state ---


def test_names_in_the_order_of_creation():
    model = Pair(Stream(0))
    named = model.named_parameters()
    assert list(named) == PAIR_NAMES
    assert [id(p) for p in model.parameters()] == [id(p) for p in named.values()]
    assert list(model.named_buffers()) == ["blocks.0.running_mean", "blocks.0.running_var"]
    assert list(model.state()) == [*PAIR_NAMES, "blocks.0.running_mean", "blocks.0.running_var"]
    assert [type(m).__name__ for m in model.modules()] == ["Pair", "Dense", "BatchNorm", "Sequential", "Dense", "LayerNorm", "Dense"]


def test_state_round_trip():
    x = Stream(5).normal((3, 4, 5, 2))
    model, other = stack("tanh", Stream(0)), stack("tanh", Stream(1))
    model(x)  # moves the running moments
    state = model.state()
    assert np.any(other.train(False)(x).data != model.train(False)(x).data)
    other.load_state(state)
    np.testing.assert_array_equal(other(x).data, model(x).data)
    state["layers.0.w"][...] = 0  # a copy
    np.testing.assert_array_equal(other(x).data, model(x).data)
    before = {name: p.data for name, p in other.named_parameters().items()}
    other.load_state(model.state())
    assert all(p.data is before[name] for name, p in other.named_parameters().items()), "an optimizer's arrays must stay in place"


def test_load_state_changes_nothing_unless_all_fits():
    model = Pair(Stream(0))
    before, good = model.state(), Pair(Stream(1)).state()
    for bad, message in (
        ({k: v for k, v in good.items() if k != "head.w"}, r"missing \['head.w'\], unknown nothing"),
        (good | {"extra": np.ones(1)}, r"missing nothing, unknown \['extra'\]"),
        (good | {"ends.0.b": np.ones(2)}, r"ends.0.b is \(2,\), the model's is \(1,\); the model has another architecture"),
    ):
        with pytest.raises(ShapeError, match=message):
            model.load_state(bad)
        for name, a in model.state().items():
            np.testing.assert_array_equal(a, before[name])


def test_a_module_used_twice_is_trained_once():
    shared = Dense(2, 2, Stream(0))
    model = Sequential(shared, Activation("tanh"), shared)
    assert len({id(p) for p in model.parameters()}) == len(model.parameters()) == 2
    assert list(model.named_parameters()) == ["layers.0.w", "layers.0.b"]


def test_to_float64():
    model, x = stack("sigmoid", Stream(0)), Stream(5).normal((3, 4, 5, 2))
    tensors, single = model.parameters(), model.train(False)(x).data
    assert model.to(dtype=np.float64) is model
    assert all(a.dtype == np.float64 for a in model.state().values())
    assert [id(t) for t in tensors] == [id(t) for t in model.parameters()]
    double = model(x.astype(np.float64)).data
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, single, atol=1e-5)
    assert np.any(double != single)
    model.train()(x.astype(np.float64))
    assert all(a.dtype == np.float64 for a in model.state().values())
    assert all(a.dtype == np.float32 for a in model.to(dtype=np.float32).state().values())


def test_train_reaches_every_module():
    model = Pair(Stream(0))
    assert all(m.training for m in model.modules())
    assert model.train(False) is model
    assert not any(m.training for m in model.modules())
    assert all(m.training for m in model.train().modules())


# --- moments and noise ---


def test_batch_norm_by_numpy():
    """Running moments: an exponential average of the batches' means and unbiased variances; evaluation uses those alone."""
    rng, layer = np.random.default_rng(0), BatchNorm(3, momentum=0.2, eps=1e-3).to(dtype=np.float64)
    layer.gamma.data[:], layer.beta.data[:] = [1, 2, 3], [-1, 0, 1]
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(4):
        x = rng.normal(2, 3, (5, 2, 3))
        flat = x.reshape(10, 3)
        y = layer(x).data.reshape(10, 3)
        standard = (flat - np.mean(flat, 0)) / np.sqrt(np.var(flat, 0) + 1e-3)
        np.testing.assert_allclose(y, standard * [1, 2, 3] + [-1, 0, 1], rtol=1e-12, atol=1e-12)
        mean, var = 0.8 * mean + 0.2 * np.mean(flat, 0), 0.8 * var + 0.2 * np.var(flat, 0, ddof=1)
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12)
        np.testing.assert_allclose(layer.running_var, var, rtol=1e-12)
    layer.train(False)
    x = rng.normal(size=(1, 1, 3))  # one example will do now
    expected = (x - mean) / np.sqrt(var + 1e-3) * [1, 2, 3] + [-1, 0, 1]
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-12)


def test_layer_norm_by_numpy():
    layer, x = LayerNorm(4, eps=1e-2).to(dtype=np.float64), np.random.default_rng(0).normal(2, 3, (5, 4))
    layer.gamma.data[:], layer.beta.data[:] = [1, 2, 3, 4], [-1, 0, 1, 2]
    expected = (x - np.mean(x, 1)[:, None]) / np.sqrt(np.var(x, 1)[:, None] + 1e-2) * [1, 2, 3, 4] + [-1, 0, 1, 2]
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-12)


def test_gdn_by_numpy_and_its_inverse_where_a_channel_stands_alone():
    layer, back = GDN(2).to(dtype=np.float64), GDN(2, inverse=True).to(dtype=np.float64)
    x = np.random.default_rng(0).normal(0, 3, (4, 5, 2))
    beta, gamma = layer.b.data**2 + 1e-6, layer.g.data**2
    assert abs(gamma.diagonal() - 0.1).max() < 1e-6  # in float32
    assert gamma.min() > 0
    expected = np.empty_like(x)
    for at in np.ndindex(4, 5):
        for k in (0, 1):
            expected[at][k] = x[at][k] / np.sqrt(beta[k] + gamma[0, k] * x[at][0] ** 2 + gamma[1, k] * x[at][1] ** 2)
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-12)
    np.testing.assert_allclose(back(x).data * layer(x).data, x * x, rtol=1e-12)


def test_dropout_keeps_the_mean_and_follows_its_stream():
    rate, n = 0.3, 40_000
    x = np.ones(n, np.float32)
    layer = Dropout(rate, Stream(3))
    y = layer(x).data
    assert y.dtype == np.float32
    np.testing.assert_array_equal(np.unique(y), [0, np.float32(1 / (1 - rate))])
    # an element is 0 or 1 / (1 - rate): variance rate / (1 - rate); five standard errors
    assert abs(y.mean() - 1) < 5 * math.sqrt(rate / (1 - rate) / n)
    np.testing.assert_array_equal(Dropout(rate, Stream(3))(x).data, y)
    assert np.any(layer(x).data != y), "the second draw is another"
    assert np.any(Dropout(rate, Stream(4))(x).data != y)
    assert layer.train(False)(x) is x
    assert Dropout(0.0, Stream(3))(x) is x
    assert Dropout(rate, Stream(3))(x.astype(np.float64)).dtype == np.float64


def test_dropouts_gradient_is_its_mask():
    x = Tensor(np.arange(1.0, 101))
    y = Dropout(0.5, Stream(0))(x)
    (g,) = gradients(y.sum(), [x])
    np.testing.assert_array_equal(g, y.data / x.data)


# --- gradients of whole stacks ---


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [None, *NAMES])
def test_gradient_of_a_stack_by_the_complex_step(activation, training):
    """Along a random direction in all parameters and the input: Im L(p + ihv) / h = <dL/dp, v>."""
    h, rng = 1e-30, np.random.default_rng(2)
    model = stack(activation, Stream(7)).to(dtype=np.float64).train(training)
    x = Tensor(rng.normal(size=(3, 4, 5, 2)))
    weight = rng.normal(size=(3, 4, 5, 1))

    def loss():
        return (model(x) * weight).sum()

    params = [x, *model.parameters()]
    grads = gradients(loss(), params)
    for p, g in zip(params, grads, strict=True):
        v = rng.normal(size=p.shape)
        data, p.data = p.data, p.data + 1j * h * v
        with no_grad():
            slope = loss().data.imag / h
        p.data = data
        assert abs(slope - np.sum(g * v)) <= 1e-12 * (np.sum(abs(g * v)) + np.sum(abs(weight)))
        assert np.any(g != 0)


@pytest.mark.parametrize("activation", FUSED)
def test_a_fused_activation_is_the_activation(activation):
    rng = Stream(0)
    layers = Dense(3, 4, rng, activation), Conv2d(3, 4, rng, 2, activation=activation), ConvTranspose2d(3, 4, rng, 2, activation=activation)
    for layer in layers:
        x = Stream(1).normal((2, 3, 3, 3))
        fused = layer(x).data
        layer.activation = None
        np.testing.assert_allclose(fused, ACTIVATIONS[activation](layer(x)).data, rtol=1e-6)


def test_any_function_of_a_tensor_is_an_activation():
    def bent(x):
        return mv.ops.tanh(x) + x * 0.1

    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
    for layer, plain in (
        (nn.Dense(3, 4, mv.Stream(0), bent), nn.Dense(3, 4, mv.Stream(0))),
        (nn.Conv2d(3, 4, mv.Stream(0), activation=bent), nn.Conv2d(3, 4, mv.Stream(0))),
        (nn.ConvTranspose2d(3, 4, mv.Stream(0), activation=bent), nn.ConvTranspose2d(3, 4, mv.Stream(0))),
    ):
        np.testing.assert_array_equal(layer(x).data, bent(plain(x)).data)
    with pytest.raises(UsageError, match="or give a function of a Tensor"):
        nn.Dense(3, 4, mv.Stream(0), "bent")
