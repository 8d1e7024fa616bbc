"""The page's engine and the library agree: pictures to 1/255 a pixel, codes, likelihoods, divergences; judged by running both."""

import dataclasses

import numpy as np
import pytest

import minivae as mv
from minivae import inference, nn
from minivae.data import Dataset, to_float
from minivae.distributions import kl
from minivae.explorer.page import payload
from minivae.explorer.payload import LIKELIHOODS, Look

from .engine import run

PIXEL = 1 / 255
DECODE = """
const model = new Model(input.model, input.shape);
const x = input.x ?? [];
result = {
  means: input.z.map((z, i) => Array.from(model.mean(z, input.labels[i]))),
  q: x.map((x, i) => { const q = model.encode(x, input.labels[i]); return [Array.from(q.mean), Array.from(q.logvar ?? [])]; }),
  logLikelihood: x.map((x, i) => model.logLikelihood(x, model.decode(input.z[i], input.labels[i]))),
  logPrior: x.map((x, i) => model.logPrior(input.z[i], input.labels[i])),
  kl: x.map((x, i) => model.kl(model.encode(x, input.labels[i]), input.labels[i])),
};
"""


def strokes(n=64, shape=(14, 13, 1)):
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centre, angle = rng.uniform(4, 9, (n, 2, 1, 1)), rng.uniform(0, np.pi, (n, 1, 1))
    off = (columns - centre[:, 1]) * np.sin(angle) - (rows - centre[:, 0]) * np.cos(angle)
    images = np.repeat((255 * np.exp(-(off**2)))[..., None], shape[2], axis=3).astype(np.uint8)
    labels = (np.arange(n) % 3).astype(np.int64)
    return Dataset("strokes", images[: n // 2], labels[: n // 2], images[n // 2 :], labels[n // 2 :])


def trained(model, data, epochs=2):
    mv.fit(model, data, epochs=epochs, batch_size=8, lr=3e-3)
    return model


def both(model, data, tmp_path, codes=40, examples=12):
    """What the library says and what the page's engine says."""
    look = Look("here", model, data)
    described = payload([look])["runs"][0]["model"]
    rng = np.random.default_rng(1)
    z = (1.5 * rng.normal(size=(codes, model.latent))).astype(np.float32)
    labels = rng.integers(0, 3, codes) if hasattr(model, "condition") else None
    x = to_float(data.test_images[:examples])
    found = run(
        ["model.js"],
        DECODE,
        tmp_path,
        model=described,
        shape=list(data.image_shape),
        z=z.tolist(),
        x=x.reshape(len(x), -1).tolist(),
        labels=[0] * codes if labels is None else labels.tolist(),
    )
    known = model if labels is None else model.condition(labels[:examples])
    with inference.looking_at(model):
        q, p = known.encode(x), known.decode(z[:examples])
        said = {
            "means": inference.decode_mean(model, z, labels).reshape(codes, -1),
            "q": q,
            "logLikelihood": p.log_prob(x).numpy(),
            "logPrior": known.prior.log_prob(z[:examples]).numpy(),
        }
        said["kl"] = kl(q, known.prior).numpy() if type(model) in (mv.VAE, mv.models.CVAE) else None
    return said, found


def agree(said, found):
    assert abs(np.array(found["means"]) - said["means"]).max() < PIXEL
    means = np.array([mean for mean, _ in found["q"]])
    assert means == pytest.approx(np.asarray(inference.array(said["q"].mean)), abs=2e-3)
    for name in ("logLikelihood", "logPrior", "kl"):
        if said[name] is not None:
            assert np.array(found[name]) == pytest.approx(said[name], rel=2e-3, abs=2e-3), name


ACTIVATIONS = [name for name in nn.ACTIVATIONS if name]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation, tmp_path):
    data = strokes()
    model = mv.VAE(data.image_shape, mv.Stream(0), latent=3, hidden=[24, 20], activation=activation)
    agree(*both(trained(model, data), data, tmp_path))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("arch", ["dense", "conv", "gru", "lstm"])
def test_likelihoods_and_architectures(arch, likelihood, tmp_path):
    data = strokes(shape=(14, 13, 3) if arch == "conv" else (14, 13, 1))
    head = "log_sigma" if likelihood == "laplace" else "logvar"
    model = mv.VAE(data.image_shape, mv.Stream(0), latent=2, arch=arch, hidden=[20], likelihood=likelihood, head=head)
    agree(*both(trained(model, data), data, tmp_path))


def test_a_likelihood_that_the_page_lacks_is_refused():
    assert set(LIKELIHOODS) == set(mv.models.LIKELIHOODS)  # of the library's it lacks none
    data = strokes()
    model = mv.VAE(data.image_shape, mv.Stream(0), latent=2, hidden=[5])
    model.likelihood = "poisson"
    with pytest.raises(mv.UsageError, match="here has a poisson likelihood, and the explorer's page knows bernoulli, "):
        payload([Look("here", model, data)])


@pytest.mark.parametrize("story", ["ae", "cvae", "learned", "hierarchical"])
def test_stories(story, tmp_path):
    data = strokes()
    shape, rng = data.image_shape, mv.Stream(0)
    model = {
        "ae": lambda: mv.models.AE(shape, rng, latent=4, hidden=[20]),
        "cvae": lambda: mv.models.CVAE(shape, rng, condition=3, latent=4, arch="conv", hidden=[20]),
        "learned": lambda: mv.models.CVAE(shape, rng, condition=3, latent=4, hidden=[20], prior_kind="learned"),
        "hierarchical": lambda: mv.models.HierarchicalVAE(shape, rng, latent=5, top=2, hidden=[20]),
    }[story]()
    agree(*both(trained(model, data), data, tmp_path))


def test_layers_of_ones_own_network(tmp_path):
    """Batch norm by its running moments, layer norm, dropout that is off, kernels that are no squares, strides and sizes."""
    data, rng = strokes(), mv.Stream(0)
    encoder = nn.Sequential(
        nn.Conv2d(1, 6, rng, kernel=(3, 5), stride=(2, 1), padding=((1, 0), (2, 1)), activation=nn.ACTIVATIONS["silu"]),
        nn.BatchNorm(6),
        nn.Dropout(0.4, mv.Stream(3)),
        nn.Flatten(),
        nn.Dense(7 * 12 * 6, 12, rng),
        nn.LayerNorm(12),
        nn.Activation("tanh"),
        nn.Dense(12, 4, rng),
    )
    decoder = nn.Sequential(
        nn.Dense(2, 7 * 12 * 2, rng, "relu"),
        nn.Reshape(7, 12, 2),
        nn.ConvTranspose2d(2, 1, rng, kernel=(4, 3), stride=(2, 1), padding=((1, 1), (0, 1)), size=(14, 13)),
    )
    model = mv.VAE(data.image_shape, latent=2, encoder=encoder, decoder=decoder)
    agree(*both(trained(model, data, epochs=3), data, tmp_path))


@pytest.fixture(scope="module")
def digits():
    return mv.data.load("digits5k")


@pytest.mark.parametrize("arch", ["dense", "conv"])
def test_a_thousand_codes_of_the_default_models(arch, digits, tmp_path, capsys):
    """Of every pixel of 1,000 pictures; how fast the engine is, is printed."""
    part = dataclasses.replace(digits, train_images=digits.train_images[:1500], train_labels=digits.train_labels[:1500])
    model = mv.VAE(digits.image_shape, mv.Stream(0), arch=arch)
    mv.fit(model, part, epochs=1, batch_size=50, lr=1e-3)
    said, found = both(model, digits, tmp_path, codes=1000, examples=20)
    agree(said, found)
    worst = abs(np.array(found["means"]) - said["means"]).max()
    with capsys.disabled():
        print(f"\n{arch}: the page's pixels are within {worst * 255:.3f} / 255 of the library's, over 1,000 codes")


def test_a_planted_mistake_is_found(tmp_path, monkeypatch):
    """Weights in 4 bits: the judge above is not blind."""
    from minivae.explorer import packing

    data = strokes()
    model = trained(mv.VAE(data.image_shape, mv.Stream(0), latent=2, arch="conv", hidden=[20]), data)
    monkeypatch.setattr(packing, "STEPS", 7)
    said, found = both(model, data, tmp_path)
    with pytest.raises(AssertionError):
        agree(said, found)


def test_every_packed_number_is_near(tmp_path):
    from minivae.explorer.packing import pack

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(90, 60)) * 10.0**k for k in range(-6, 7, 3)] + [np.zeros((70, 70)), rng.normal(size=5)]
    found = run(["numbers.js"], "result = input.arrays.map((a) => Array.from(unpack(a)));", tmp_path, arrays=[pack(a, "a") for a in arrays])
    for a, b in zip(arrays, found, strict=True):
        assert abs(a.reshape(-1) - np.array(b)).max() <= abs(a).max() / 65534 * 1.001 + 1e-30
