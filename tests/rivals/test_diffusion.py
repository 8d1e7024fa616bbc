"""Diffusion: its bound against the entropy of Gaussian data, its terms against KLs of Gaussians, its samplers against linear maps, its
network against an average over finite data."""

import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minivae as mv
from minivae import ShapeError, Stream, UsageError, inference, nn
from minivae.cli import main
from minivae.data import Batch
from minivae.distributions import Gaussian, NoisyLevels, kl
from minivae.evaluate import best_noise
from minivae.gradcheck import frozen, gradcheck
from minivae.models import Diffusion, level_frequencies
from minivae.models.diffusion import Chain, scales
from minivae.objectives import NoisePrediction, trained
from minivae.objectives.diffusion import noisy, prior_kl, spread, terms
from minivae.training import Trainer, TrainingConfig

from .test_gan import spots

VARIANCE = 0.7


class Exact(Diffusion):
    """Knows that the data are N(0, 0.7): E[eps | z] = s z / (0.7 a^2 + s^2)."""

    def __init__(self, **options):
        super().__init__((1,), Stream(0), hidden=(2,), **options)
        self.to(dtype=np.float64)

    def noise(self, z, t):
        gamma = self.gamma(t)[:, None]
        signal, scale = 1 / (1 + np.exp(gamma)), 1 / (1 + np.exp(-gamma))
        return mv.stop_gradient(np.sqrt(scale) * z / (VARIANCE * signal + scale))


def exact_terms(layers, low=-13.3, high=5.0):
    """(prior, layers, reconstruction) of the bound for the exact network, in nats, all expectations in closed form."""
    g = low + (high - low) * np.arange(layers + 1) / layers
    signal, scale = 1 / (1 + np.exp(g)), 1 / (1 + np.exp(-g))
    left = VARIANCE * signal / (VARIANCE * signal + scale)  # E |eps - E[eps | z]|^2
    prior = 0.5 * (signal[-1] * VARIANCE + scale[-1] - 1 - np.log(scale[-1]))
    return prior, 0.5 * (np.expm1(np.diff(g)) * left[1:]).sum(), 0.5 * np.log(2 * np.pi * np.e * scale[0] / signal[0])


def test_the_bound_of_gaussian_data_is_their_entropy_and_55_over_T():
    """With T layers a Riemann sum stands for an integral, from its upper ends: the excess is 1/(2T) (g_1 - g_0) times the difference of the
    integrand at the ends, 18.3/2 (1 - 0) / 2 = 4.6, and the convexity of expm1, (g_1 - g_0)^2 / 4 per unit of the integral."""
    entropy = 0.5 * np.log(2 * np.pi * np.e * VARIANCE)
    excess = [sum(exact_terms(layers)) - entropy for layers in (1000, 4000, 16000)]
    scaled = np.multiply(excess, (1000, 4000, 16000))
    assert (np.array(excess) > 0).all()
    assert_allclose(scaled, 55, atol=1)
    model, n, layers = Exact(), 200_000, 1000
    x = math.sqrt(VARIANCE) * np.random.default_rng(0).normal(size=(n, 1))
    losses, reports = NoisePrediction(layers=layers).losses({"model": model}, Batch(x), Stream(1), trained(n, ("model",)))
    prior, middle, reconstruction = exact_terms(layers)
    for found, expected in ((reports["kl"], prior + middle), (reports["reconstruction"], reconstruction)):
        values = found.data
        assert abs(values.mean() - expected) < 5 * values.std() / np.sqrt(n)
    assert_allclose(losses["model"].item(), sum(reports[name].data.mean() for name in reports), rtol=1e-9)


def test_a_layer_is_the_kl_of_two_gaussians():
    """q(z_s | z_t, x), by the product of q(z_t | z_s) and q(z_s | x), against the same with the guess in the place of x."""
    model, rng = Exact(), np.random.default_rng(0)
    for t, s in ((1.0, 0.9), (0.51, 0.5), (0.02, 0.0)):
        (a_t, s_t), (a_s, s_s) = scales(model.gamma(t)), scales(model.gamma(s))
        x, z = rng.normal(size=(5, 1)), rng.normal(size=(5, 1))
        eps, guess_eps = (z - a_t * x) / s_t, model.noise(z, np.full(5, t)).data
        step, added = a_t / a_s, s_t**2 - (a_t / a_s) ** 2 * s_s**2  # z_t given z_s

        def posterior(x, z=z, step=step, added=added, a_s=a_s, s_s=s_s):
            precision = step**2 / added + 1 / s_s**2
            return Gaussian((step * z / added + a_s * x / s_s**2) / precision, np.full((5, 1), -np.log(precision)))

        guess = (z - s_t * guess_eps) / a_t
        expected = kl(posterior(x), posterior(guess)).data
        found = 0.5 * math.expm1(model.gamma(t) - model.gamma(s)) * ((eps - guess_eps) ** 2).sum(axis=1)
        assert_allclose(found, expected, rtol=1e-6)
        # and a step of the sampler has that posterior's mean and variance
        chain, many = Chain(model, 10, 1.0), np.repeat(z[:1], 20_000, axis=0)
        drawn = chain.step(many, t, s, Stream(3))
        p = posterior(guess)
        sd = np.exp(0.5 * p.logvar[0, 0])
        assert abs(drawn.mean() - p.mean[0, 0]) < 5 * sd / np.sqrt(20_000)
        assert abs(drawn.std() / sd - 1) < 5 / np.sqrt(40_000)


def test_the_prior_s_kl():
    y = np.random.default_rng(0).normal(size=(3, 4))
    a, s = scales(5.0)
    q = Gaussian(a * y, np.full((3, 4), 2 * np.log(s)))
    assert_allclose(prior_kl(y, 5.0), kl(q, mv.distributions.StandardGaussian(4)).data, rtol=1e-8)


@pytest.mark.parametrize("steps", [10, 100, 400])
def test_ddim_is_a_linear_map_and_ancestral_sampling_a_recursion_of_variances(steps):
    model = Exact(steps=steps)
    times = np.arange(steps, 0, -1) / steps
    factor, variance, noise_free = 1.0, 1.0, Chain(model, steps, 0.0)
    z = np.array([[1.0], [-2.0]])
    for t in times:
        s = max(t - 1 / steps, 0.0)
        (a_t, s_t), (a_s, s_s) = scales(model.gamma(t)), scales(model.gamma(s))
        guess_eps = s_t / (VARIANCE * a_t**2 + s_t**2)
        guess_x = (1 - s_t * guess_eps) / a_t
        z = noise_free.step(z, t, s, Stream(0))
        factor *= a_s * guess_x + s_s * guess_eps
        v = (s_s / s_t) ** 2 * (1 - (a_t / a_s) ** 2)
        variance = variance * (a_s * guess_x + math.sqrt(s_s**2 - v) * guess_eps) ** 2 + v
    assert_allclose(z[:, 0], [factor, -2 * factor], rtol=1e-9)
    # without discretization the map carries the sd of z_1 to that of z_0
    (a_1, s_1), (a_0, s_0) = scales(5.0), scales(-13.3)
    flow = math.sqrt((a_0**2 * VARIANCE + s_0**2) / (a_1**2 * VARIANCE + s_1**2))
    assert abs(factor / flow - 1) < 4 / steps
    n = 4000
    drawn = model.prior.sample(Stream(1), n, like=np.zeros(1)).data
    assert drawn.shape == (n, 1)
    assert abs(drawn.var() / variance - 1) < 5 * np.sqrt(2 / n)
    assert_array_equal(Chain(model, steps, 0.0).sample(Stream(2), (2, 3), like=np.zeros(1)).data.shape, (2, 3, 1))


def test_the_best_noise_is_the_slope_of_the_log_density():
    rng = np.random.default_rng(0)
    data, z, a, s = rng.normal(size=(7, 3)), rng.normal(size=(4, 3)), 0.8, 0.5

    def log_density(z):
        return np.log(np.exp(-((z[:, None] - a * data) ** 2).sum(axis=-1) / (2 * s * s)).mean(axis=1))

    for k in range(3):
        step = 1e-6 * np.eye(3)[k]
        slope = (log_density(z + step) - log_density(z - step)) / 2e-6
        assert_allclose(best_noise(data, z, a, s)[:, k], -s * slope, rtol=1e-6, atol=1e-8)
    with pytest.raises(ShapeError, match="best_noise"):
        best_noise(data, z[:, :2], a, s)
    with pytest.raises(UsageError, match="best_noise"):
        best_noise(data, z, a, 0.0)


def test_a_network_learns_the_average_over_finite_data_and_samples_them():
    points = np.array([[-1.5, 0.0], [0.5, 1.0], [1.0, -1.0]], np.float32)
    data = np.repeat(points, 400, axis=0)
    model = Diffusion((2,), Stream(0), hidden=(48, 48), steps=60)
    trainer = mv.fit(
        model, data, NoisePrediction("noise", ema=0.99), epochs=25, batch_size=100, lr=5e-3, lr_schedule="cosine", progress=False
    )
    assert trainer.why_eager == ""
    model.train(False)
    for t in (0.45, 0.65, 0.85):
        a, s = scales(model.gamma(t))
        noise = np.random.default_rng(1).normal(size=(1200, 2)).astype(np.float32)
        z = (a * data + s * noise).astype(np.float32)
        best, found = best_noise(points, z, a, s), model.noise(z, np.full(1200, t, np.float32)).data
        least, zero = ((best - noise) ** 2).sum(axis=1).mean(), (noise**2).sum(axis=1).mean()
        told = ((found - noise) ** 2).sum(axis=1).mean()
        assert told - least < 0.2 * (zero - least)  # of what there is to know, four fifths
    made = inference.sample(model, Stream(1), 300)
    distance = np.sqrt(((made[:, None] - points) ** 2).sum(axis=-1))
    assert (distance.min(axis=1) < 0.4).mean() > 0.8
    assert np.bincount(distance.argmin(axis=1), minlength=3).min() > 50


def test_times_are_spread():
    t = spread(np.array([0.3]), 8, 4) * 4
    assert sorted(t.tolist()) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert spread(np.zeros(1), 1, 10)[0] == 0.1
    assert_allclose(noisy(np.ones((1, 2)), np.zeros((1, 2)), np.zeros(1), 0.0, 1.0), math.sqrt(0.5), rtol=1e-9)


def test_the_loss_is_the_sum_of_its_terms():
    """Where the last layer still tells of the data, so that it counts."""
    model = disturbed(Diffusion((2, 3, 1), Stream(0), hidden=(4,), levels=3, high=0.0))
    x = np.random.default_rng(0).integers(0, 3, (5, 2, 3, 1)) / 2
    losses, reports = NoisePrediction(layers=10).losses({"model": model}, Batch(x), Stream(5), trained(5, ("model",)))
    found, y = terms(model, x, Stream(5), 10), 2 * x.reshape(5, -1) - 1
    last = 0.5 * (y**2 / 2 + 0.5 - 1 - math.log(0.5)).sum(axis=1)  # a^2 = s^2 = 1/2
    kl = 10 / 2 * np.expm1((0 - model.low) / 10) * found.squares.data + last
    assert_allclose(reports["kl"].data, kl, rtol=1e-12)
    assert_allclose(losses["model"].data, (kl + found.reconstruction.data).mean(), rtol=1e-12)
    told = {"reconstruction": 1.25, "kl": 2.5}
    assert [NoisePrediction(goal).summary(told) for goal in ("bound", "noise")] == ["= 1.25 + 2.50", "bound 3.75"]


def test_levels_are_a_softmax_over_all_of_them():
    rng = np.random.default_rng(0)
    for levels, sigma in ((256, 0.0006), (256, 0.02), (4, 0.3), (2, 5.0)):
        k = rng.integers(0, levels, (3, 5))
        mean = k / (levels - 1) + sigma * rng.normal(size=(3, 5))
        logits = -0.5 * ((mean[..., None] - np.arange(levels) / (levels - 1)) / sigma) ** 2
        log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        p = NoisyLevels(mean, sigma, levels)
        assert_allclose(p.log_prob(k / (levels - 1)).data, np.take_along_axis(log_p, k[..., None], -1)[..., 0].sum(axis=1), atol=1e-9)
        assert_allclose(p.mean.data, (np.exp(log_p) * np.arange(levels)).sum(axis=-1) / (levels - 1), atol=1e-9)
    far = np.array([[5.0, -3.0, 1.2]])  # a value beyond all levels tells of each of them, the farthest too
    log_p = -0.5 * (far[..., None] - np.arange(4) / 3) ** 2
    log_p -= np.logaddexp.reduce(log_p, axis=-1, keepdims=True)
    for k in range(4):
        assert_allclose(NoisyLevels(far, 1.0, 4).log_prob(np.full(far.shape, k / 3)).data, log_p[..., k].sum(axis=1), atol=1e-9)
    with pytest.raises(ShapeError, match="none of the 4 values"):
        NoisyLevels(np.zeros((1, 2)), 0.1, 4).log_prob(np.array([[0.5, 1.0]]))
    with pytest.raises(UsageError, match="sigma is 0"):
        NoisyLevels(np.zeros((1, 2)), 0.0)


@pytest.mark.parametrize(
    "options",
    [{"hidden": (6, 6)}, {"hidden": (5,), "levels": 0}, {"hidden": (5,), "frequencies": np.arange(1.0, 257)}],
    ids=["dense", "plain", "by itself"],
)
def test_gradients_are_right(options):
    model = disturbed(Diffusion((4, 3, 1), Stream(0), **options))
    x = (np.random.default_rng(0).integers(0, 256, (3, 4, 3, 1)) / 255).astype(np.float64)

    def loss(model, x, rng):
        return NoisePrediction(layers=10).losses({"model": model}, Batch(x), rng, trained(3, ("model",)))[0]["model"]

    report = gradcheck(frozen(loss, model, x, Stream(5)), elements=2, directions=1)
    assert report.ok, report


def disturbed(net):
    """In float64, with what starts at 0 moved from there: it would hide what lies behind it."""
    rng = np.random.default_rng(0)
    net.to(dtype=np.float64)
    for p in net.parameters():
        p.data[...] = p.data + 0.1 * rng.normal(size=p.shape)
    return net


def test_the_gradient_of_a_unet_along_a_random_line():
    """d/dh of a loss at parameters + h v is <gradient, v>: by a complex step, to rounding."""
    net = disturbed(nn.UNet((4, 4), 2, 1, Stream(0), (2, 4), 1))
    rng = np.random.default_rng(1)
    x, t, u = rng.normal(size=(2, 4, 4, 2)), np.array([0.2, 0.9]), rng.normal(size=(2, 4, 4, 1))
    v = [rng.normal(size=p.shape) for p in net.parameters()]
    gradients = mv.gradients((net(x, t) * u).sum(), net.parameters())
    expected = sum((g * w).sum() for g, w in zip(gradients, v, strict=True))
    for p, w in zip(net.parameters(), v, strict=True):
        p.data = p.data + 1j * 1e-30 * w
    assert_allclose((net(x, t) * u).sum().data.imag / 1e-30, expected, rtol=1e-10)


def test_group_norm():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float64)
    layer = nn.GroupNorm(6, 2).to(dtype=np.float64)
    y = layer(x).data
    for n in range(2):
        for group in (slice(0, 3), slice(3, 6)):
            part = x[n, :, :, group]
            assert_allclose(y[n, :, :, group], (part - part.mean()) / np.sqrt(part.var() + 1e-5), rtol=1e-9)
    assert nn.GroupNorm(6, 4).groups == 2  # a number that divides


@pytest.mark.parametrize("size", [(28, 28), (7, 9)])
def test_a_unet_takes_any_size_and_starts_at_zero(size):
    net = nn.UNet(size, 2, 3, Stream(0), (4, 8, 8), 1)
    y = net(np.ones((2, *size, 2), np.float32), np.array([0.1, 0.9], np.float32))
    assert y.shape == (2, *size, 3)
    assert (y.data == 0).all()


@pytest.mark.parametrize(
    "model",
    [
        {"hidden": (8,)},
        {"arch": "unet", "channels": (2, 2)},
        {"arch": "unet", "channels": (2, 2), "frequencies": [2.0, *[1.0] * 255]},
    ],
    ids=["dense", "unet", "by itself"],
)
def test_a_resumed_run_makes_the_bytes_of_one_that_never_stopped(tmp_path, model):
    data = spots(40)
    whole = mv.Run.start(tmp_path / "whole", data, {"model": "diffusion", "steps": 4} | model, TrainingConfig(4, 10))
    assert whole.trainer.objective == NoisePrediction()
    whole.train(data)
    assert whole.trainer.why_eager == ""
    mv.Run.start(tmp_path / "half", data, {"model": "diffusion", "steps": 4} | model, TrainingConfig(2, 10)).train(data)
    resumed = mv.Run.open(tmp_path / "half", epochs=4)
    resumed.train(data)
    assert (tmp_path / "half/model.npz").read_bytes() == (tmp_path / "whole/model.npz").read_bytes()
    assert set(resumed.metrics[-1]["test"]) == {"loss", "reconstruction", "kl"}
    made = inference.sample(mv.load(tmp_path / "whole"), Stream(1), 4)
    assert made.shape == (4, 9, 8, 1)
    assert_array_equal(made, inference.sample(resumed.model, Stream(1), 4))


def test_from_the_command_line(tmp_path, capsys):
    np.savez(tmp_path / "images.npz", images=spots(40).train_images)
    folder = tmp_path / "run"
    train = ["train", tmp_path / "images.npz", "--model", "diffusion", "--hidden", 8, "--batch-size", 10, "--epochs", 1, "--out", folder]
    assert main([str(a) for a in (*train, "--goal", "noise", "--layers", 50)]) == 0
    assert "bound" in capsys.readouterr().out
    assert json.loads((folder / "config.json").read_text())["objective"] == {
        "objective": "noise_prediction",
        "goal": "noise",
        "layers": 50,
        "ema": 0.999,
    }
    assert {"samples.png", "losses.png"} <= {p.name for p in folder.iterdir()}
    assert main(["evaluate", str(folder)]) == 0
    assert "bits per dimension" in capsys.readouterr().out


def test_a_unet_from_the_command_line_starts_from_the_levels_of_its_data(tmp_path):
    """Its bound, untrained, is then no more than 8 bits a pixel, where one that is told nothing begins far above."""
    np.savez(tmp_path / "images.npz", images=spots(40).train_images)
    bounds = {}
    for name, more in (("unet", ["--channels", 2, 2]), ("dense", ["--hidden", 8])):
        train = ["train", tmp_path / "images.npz", "--model", "diffusion", "--arch", name, *more, "--epochs", 0, "--out", tmp_path / name]
        assert main([str(a) for a in train]) == 0
        found = mv.Run.open(tmp_path / name).trainer.evaluate(spots(40).test_images)
        bounds[name] = found["loss"] / math.log(2) / 72
    assert bounds["unet"] < 8 < bounds["dense"]
    alone = level_frequencies(mv.data.load(tmp_path / "images.npz").train_images)
    assert_allclose(np.exp(mv.load(tmp_path / "unet").log_frequency), alone, rtol=1e-5)


def test_what_does_not_go_together_is_refused():
    wrong = ({"arch": "conv"}, {"arch": "unet", "image_shape": (3,)}, {"levels": 1}, {"steps": 0}, {"eta": 2.0}, {"low": 6.0})
    for options in (*wrong, {"arch": "unet", "hidden": (5,)}, {"channels": (5,)}):
        with pytest.raises(UsageError, match=r"Diffusion: "):
            Diffusion(**({"image_shape": (4, 4, 1), "rng": Stream(0)} | options))
    with pytest.raises(UsageError, match="needs a model with noise"):
        Trainer(mv.VAE((4, 4, 1), Stream(0)), None, NoisePrediction())
    with pytest.raises(UsageError, match="goal"):
        NoisePrediction("speed")
    with pytest.raises(UsageError, match="ema"):
        NoisePrediction(ema=1.0)
