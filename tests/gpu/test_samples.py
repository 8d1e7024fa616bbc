"""Samples drawn on the device, without a GPU: those that a CPU draws of the same seed, and no number leaves the device on the way."""

import numpy as np
import pytest

import minivae as mv
from minivae import evaluate, inference
from minivae.kernels.gpu import step
from minivae.models import MODELS, Diffusion, build, level_frequencies
from minivae.random import on_draw

from .host import needs_compiler
from .host.fake_cupy import installed
from .host.transfers import Transfers

pytestmark = needs_compiler
EPS = 2.0**-24
SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (7, *SHAPE), np.uint8)
SAMPLERS = {
    "dense": {},
    "no noise": {"eta": 0.0},
    "frequencies": {"frequencies": level_frequencies(IMAGES)},
    "vectors": {"image_shape": (5,)},
    "unet": {"arch": "unet", "channels": (2, 2), "hidden": None, "frequencies": level_frequencies(IMAGES)},
}


@pytest.fixture
def cupy(monkeypatch):
    with installed(monkeypatch) as module:
        yield module


def diffusion(sampler="dense", device="cpu", steps=6, dtype=None):
    """Its weights are drawn, so that what the network says has a say; but little, since waves of z, 2^7 pi, make rounding large."""
    model = Diffusion(rng=mv.Stream(0), **{"image_shape": SHAPE, "hidden": (6,), "steps": steps, **SAMPLERS[sampler]})
    rng = mv.Stream(5)
    for p in model.average.net.modules():
        for _, value in p.tree():
            if isinstance(value, mv.Tensor):
                value.data = value.data + np.float32(0.02) * rng.normal(value.shape)
    return model.to(device, dtype)


class Replayed:
    """A stream of normal numbers that were drawn before."""

    def __init__(self, normals):
        self.normals = iter(normals)

    def normal(self, shape, like):
        return next(self.normals).astype(like.dtype).reshape(shape)


def drawn(model, seed=1, n=4):
    """(codes, the normal numbers that they are made of, what the stream is afterwards), on the CPU."""
    normals, rng = [], mv.Stream(seed)
    token = on_draw.set(lambda stream, method, like, numbers: normals.append(numbers if like is None else mv.Tensor(numbers).numpy()))
    try:
        found = inference.sample_prior(model, rng, n)
    finally:
        on_draw.reset(token)
    return found, normals, rng.state()


def rounding(sampler):
    """(the error of the device, of the CPU) in the codes: off the same chain in float64, of the normal numbers that each has drawn."""
    errors = []
    for device in ("cuda", "cpu"):
        codes, normals, _ = drawn(diffusion(sampler, device))
        exact = inference.sample_prior(diffusion(sampler, dtype=np.float64), Replayed(normals), len(codes))
        errors.append(abs(codes - exact).max())
    return errors


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_of_a_diffusion_are_those_of_the_cpu(cupy, sampler):
    (_, there, state), (_, here, also) = drawn(diffusion(sampler, "cuda")), drawn(diffusion(sampler))
    assert state == also
    assert len(there) == len(here) == (1 if sampler == "no noise" else 7)  # z_1, and in each step
    for a, b in zip(there, here, strict=True):  # the uniforms are the same, and log, sin and cos of an argument up to 2 pi rounded
        np.testing.assert_allclose(a, b, atol=8 * 2 * np.pi * EPS, rtol=8 * EPS)
    error, of_cpu = rounding(sampler)
    assert error <= 4 * of_cpu, (error, of_cpu)  # both round, each in its order; the CPU's own is the measure


def test_the_judge_sees_a_guess_of_another_time(cupy, monkeypatch):
    noise = Diffusion.noise
    monkeypatch.setattr(Diffusion, "noise", lambda self, z, t: noise(self, z, t if isinstance(z, np.ndarray) else t * np.float32(1.001)))
    error, of_cpu = rounding("dense")
    assert error > 4 * of_cpu


def test_the_judge_sees_noise_of_another_size(cupy, monkeypatch):
    normal = step.normal
    monkeypatch.setattr(step, "normal", lambda *a: normal(*a) * np.float32(1.0001))
    with pytest.raises(AssertionError):
        test_samples_of_a_diffusion_are_those_of_the_cpu(cupy, "dense")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_step_of_a_diffusion_copies_to_the_cpu_or_from_it(cupy, monkeypatch, sampler):
    transfers = Transfers(monkeypatch)
    for steps in (1, 6):
        model = diffusion(sampler, "cuda", steps)
        assert transfers.during(lambda model=model: inference.sample(model, mv.Stream(1), 4)) == (1, 0)  # the samples


def test_a_step_by_way_of_the_cpu_is_counted(cupy, monkeypatch):
    noise = Diffusion.noise
    monkeypatch.setattr(Diffusion, "noise", lambda self, z, t: noise(self, cupy.asarray(z.get()), t))
    transfers, model = Transfers(monkeypatch), diffusion("dense", "cuda")
    assert transfers.during(lambda: inference.sample(model, mv.Stream(1), 4)) == (7, 6)


@pytest.mark.parametrize("sampler", ["dense", "frequencies", "unet"])
def test_what_each_layer_costs_is_told_on_the_device_too(cupy, sampler):
    there, here = (evaluate.layer_costs(diffusion(sampler, device), IMAGES, mv.Stream(2)) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(there.gamma, here.gamma, rtol=1e-6)  # t is a number of 1 / 1000, in float32
    for name in ("prior", "reconstruction"):
        np.testing.assert_allclose(getattr(there, name), getattr(here, name), rtol=1e-5, err_msg=name)
    # w |noise - eps|^2, where eps is a difference of numbers of about 1 over s: some roundings of each of D numbers
    s, w, D = (1 + np.exp(-here.gamma)) ** -0.5, 500 * np.expm1((here.high - here.low) / 1000), IMAGES[0].size
    off = 8 * EPS * np.sqrt(w * D) / s
    assert (abs(there.layers - here.layers) <= 2 * np.sqrt(here.layers) * off + off**2).all()


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_draws_on_the_device_what_it_draws_on_a_cpu(cupy, monkeypatch, kind):
    sizes = {"hidden": (5,)} | ({} if kind == "diffusion" else {"latent": 4})
    options = {"cvae": {"condition": 3}, "m2": {"classes": 3}}.get(kind, {})
    arguments = {"model": kind, "image_shape": SHAPE, **sizes, **options}
    labels = np.array([0, 2, 1, 0]) if options else None
    found = []
    for device in ("cuda", "cpu"):
        model, rng = build(arguments, mv.Stream(0)).to(device), mv.Stream(3)
        found.append((inference.sample(model, rng, 4, labels), rng.state()))
    # means in [0, 1] behind layers of 64 inputs at most, of which each rounds its sums
    np.testing.assert_allclose(found[0][0], found[1][0], atol=64 * EPS)
    assert found[0][1] == found[1][1]
