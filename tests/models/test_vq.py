"""VQ-VAE: the nearest entry by brute force, three gradients apart, the bound by enumeration of all codes, and what the codes cost."""

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial import cKDTree
from scipy.special import logsumexp

import minivae as mv
from minivae import ShapeError, Stream, UsageError, gradients, no_grad
from minivae.data import Batch
from minivae.models import VQVAE, Codebook, build, describe, perplexity
from minivae.objectives import VectorQuantization, trained

X = np.random.default_rng(0).uniform(size=(6, 4, 3, 1)).astype(np.float32)


def model(dtype=np.float64, **options):
    made = VQVAE((4, 3, 1), Stream(0), **{"latent": 6, "groups": 3, "entries": 5, "hidden": (7,), "activation": "tanh"} | options)
    made.to("cpu", dtype)
    return made


def losses(made, commitment=0.25):
    return VectorQuantization(commitment).losses({"model": made}, Batch(X.astype(np.float64)), Stream(0), trained(6, ("model",)))


def test_the_code_is_the_nearest_entry():
    made = model()
    x = X.astype(np.float64)
    with no_grad():
        said, found = made.encoder(x).data, made.quantize(x)
    _, nearest = cKDTree(made.book.data).query(said.reshape(-1, 2))
    assert_array_equal(made.indices(x), nearest.reshape(6, 3))
    entries = made.book.data[nearest].reshape(6, 6)
    assert_allclose(found.z.data, entries, rtol=1e-12)
    assert_allclose(found.codebook.data, ((said - entries) ** 2).sum(axis=1), rtol=1e-12)
    assert_allclose(found.commitment.data, found.codebook.data)
    assert_allclose(made.encode(x).mean.data, entries, rtol=1e-12)
    assert len(np.unique(nearest)) > 1


def test_each_part_is_moved_by_its_own_term():
    """The decoder by the likelihood; the book by its distance to what was said; the encoder by the decoder's gradient at z, straight
    through, and by the commitment."""
    made, commitment = model(), 0.7
    x = X.astype(np.float64)
    loss = losses(made, commitment)[0]["model"]
    g_book, *g_encoder = gradients(loss, [made.book, *made.encoder.parameters()])
    said, at = made.encoder(x), made.indices(x)
    entries = made.book.data[at].reshape(6, 6)
    wanted = np.zeros_like(made.book.data)
    np.add.at(wanted, at.ravel(), 2 * (entries - said.data).reshape(-1, 2) / 6)
    assert_allclose(g_book, wanted, rtol=1e-9, atol=1e-12)
    z = mv.Tensor(entries)
    (g_z,) = gradients(-made.decode(z).log_prob(x).mean(), [z])
    pushed = (said * (g_z + commitment * 2 * (said.data - entries) / 6)).sum()  # a function of the encoder with just this slope
    for a, b in zip(g_encoder, gradients(pushed, made.encoder.parameters()), strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_the_bound_is_a_bound_by_enumeration():
    """log P(x) = log 1/M^G sum over all 125 codes of p(x | z)."""
    made = model()
    x = X.astype(np.float64)
    codes = np.array([made.book.data[list(c)].ravel() for c in itertools.product(range(5), repeat=3)])
    with no_grad():
        every = np.stack([made.decode(np.repeat(c[None], 6, axis=0)).log_prob(x).data for c in codes])
    exact = logsumexp(every, axis=0) - 3 * math.log(5)
    _, reports = losses(made)
    bound = -(reports["reconstruction"].data + reports["kl"].data)
    assert_allclose(reports["kl"].data, 3 * math.log(5))
    assert (bound < exact).all()
    assert (bound > every.max(axis=0) - 3 * math.log(5) - 5).all()


def test_the_prior_draws_all_entries_alike():
    made = model(entries=4)
    z = made.prior.sample(Stream(0), (500, 4)).data
    assert z.shape == (500, 4, 6)
    _, at = cKDTree(made.book.data).query(z.reshape(-1, 2))
    counts = np.bincount(at, minlength=4)
    assert abs(counts - 1500).max() < 5 * math.sqrt(6000 * 0.25 * 0.75)
    assert isinstance(made.prior, Codebook)
    assert_allclose(mv.kl(made.encode(X.astype(np.float64)), made.prior).data, 3 * math.log(4))


def test_perplexity():
    assert_allclose(perplexity(np.array([[0, 1], [0, 2], [0, 3], [0, 4]]), 5), [1, 4])
    assert_allclose(perplexity(np.repeat([[0], [1]], [1, 3], axis=0), 2), np.exp(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75))))
    with pytest.raises(ShapeError, match="need \\(N, groups\\) of 0 to 1"):
        perplexity(np.array([[2]]), 2)


def test_it_trains_saves_and_loads(tmp_path):
    images = mv.data.load("digits5k").train_images[:600]
    made = VQVAE((28, 28, 1), Stream(0), latent=16, groups=8, entries=16, hidden=(50,))
    trainer = mv.fit(made, images, objective=VectorQuantization(), epochs=6, lr=3e-3, batch_size=50, progress=False)
    assert trainer.why_eager == ""  # the choice of entries is part of a recorded step
    first, last = trainer.metrics[0]["train"], trainer.metrics[-1]["train"]
    assert last["reconstruction"] < 0.8 * first["reconstruction"]
    x = mv.data.to_float(images)
    assert perplexity(made.indices(x), 16).mean() > 2
    assert describe(made)["groups"] == 8
    mv.save(made, tmp_path / "model.npz")
    again = mv.load(tmp_path / "model.npz")
    assert_array_equal(again.indices(x), made.indices(x))
    assert mv.inference.sample(again, Stream(0), 3).shape == (3, 28, 28, 1)
    assert type(build(describe(made), Stream(0))) is VQVAE


def test_what_does_not_fit_is_told():
    assert VQVAE((4, 3, 1), Stream(0), latent=20, hidden=(5,)).groups == 5
    for options in ({"groups": 4}, {"entries": 1}, {"groups": 0}):
        with pytest.raises(UsageError, match="need groups that divide latent"):
            model(**options)
    with pytest.raises(UsageError, match="has none; take --model vq"):
        VectorQuantization()(mv.VAE((4, 3, 1), Stream(0), latent=2, hidden=(5,)), X, Stream(0))
