"""Judges of images: by brute force, by SciPy, and by what is known of Gaussians."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter, laplace

import minivae as mv
from minivae import ShapeError, Stream, UsageError, inference
from minivae.evaluate import frechet_distance, likeness, mode_count, sharpness, stacked
from minivae.models import Classifier
from minivae.objectives import CrossEntropy
from minivae.runs import load, save

rng = np.random.default_rng(0)


def test_sharpness_is_the_variance_of_the_laplacian():
    x = rng.uniform(size=(5, 9, 7, 2))
    expected = np.mean([laplace(image[..., c])[1:-1, 1:-1].var() for image in x for c in range(2)])
    assert_allclose(sharpness(x), expected, rtol=1e-12)
    ramp = np.broadcast_to(np.arange(9.0)[:, None, None] * np.ones((1, 7, 1)), (3, 9, 7, 1))
    assert_allclose(sharpness(ramp), 0, atol=1e-24)  # a slope has no edge
    assert sharpness(gaussian_filter(x, (0, 1, 1, 0))) < 0.2 * sharpness(x)


def by_brute_force(made, real, k):
    def distance(a, b):
        return np.sqrt(((a - b) ** 2).sum())

    def reach(points):
        return [sorted(distance(a, b) for j, b in enumerate(points) if j != i)[k - 1] for i, a in enumerate(points)]

    of_real, of_made = reach(real), reach(made)
    inside = [[distance(f, r) <= of_real[j] for j, r in enumerate(real)] for f in made]
    back = [[distance(f, r) <= of_made[i] for r in real] for i, f in enumerate(made)]
    return (
        np.mean([any(row) for row in inside]),
        np.mean([any(row[j] for row in back) for j in range(len(real))]),
        sum(map(sum, inside)) / (k * len(made)),
        np.mean([any(row[j] for row in inside) for j in range(len(real))]),
    )


@pytest.mark.parametrize(("n", "m", "k"), [(12, 9, 1), (20, 31, 5), (31, 20, 3)])
def test_likeness_is_that_of_loops(n, m, k):
    made, real = rng.normal(size=(n, 3)) + 0.7, rng.normal(size=(m, 3))
    assert_allclose(likeness(made, real, k), by_brute_force(made, real, k), rtol=1e-12)


def test_likeness_tells_what_is_wrong():
    """One good point again and again is precise and covers nothing; noise covers nothing and is not precise; equal densities have density 1
    and coverage 1 - 2^-k for equal numbers."""
    real, other = rng.normal(size=(800, 8)), rng.normal(size=(800, 8))
    same = likeness(other, real)
    assert_allclose(same.density, 1, atol=0.1)
    assert_allclose(same.coverage, 1 - 2**-5, atol=0.03)
    assert abs(same.precision - same.recall) < 0.1
    point = likeness(real[:1] + 1e-3 * rng.normal(size=(800, 8)), real)
    assert point.precision == 1
    assert max(point.recall, point.coverage) < 0.05
    assert max(likeness(other + 20, real)) == 0


def test_the_frechet_distance_is_scipys():
    x, y = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(300, 6)) + 1
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    assert_allclose(frechet_distance(x, y), expected, rtol=1e-8)
    assert_allclose(frechet_distance(y, x), expected, rtol=1e-8)
    assert_allclose(frechet_distance(x, x), 0, atol=1e-6)
    assert_allclose(frechet_distance(x + 2, x), 6 * 4, rtol=1e-8)  # a shift alone
    assert_allclose(frechet_distance(3 * (y - y.mean(0)), y - y.mean(0)), 4 * np.trace(s2), rtol=1e-8)  # (3 - 1)^2 tr S
    flat = np.concatenate([x, np.zeros((200, 2))], axis=1)  # features that are always 0, as those behind a relu are
    assert_allclose(frechet_distance(flat, np.concatenate([y, np.zeros((300, 2))], axis=1)), expected, rtol=1e-6)


def test_modes_of_stacked_digits():
    gray = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1) * np.ones((1, 4, 4, 1), np.uint8)
    x = stacked(gray, 26_000, Stream(0))
    assert x.shape == (26_000, 4, 4, 3)
    modes, kl = mode_count(x[:, 0, 0].astype(np.int64))
    assert modes == 1000
    # twice N KL is chi-square with 999 degrees of freedom
    assert abs(kl * 2 * 26_000 - 999) < 5 * np.sqrt(2 * 999)
    assert mode_count(np.zeros((5, 3), int)) == (1, pytest.approx(np.log(1000)))
    half = np.array([[0, 0, 0], [9, 9, 9]])
    assert mode_count(half) == (2, pytest.approx(np.log(500)))


def blobs(n=240):
    """Three classes of places."""
    labels = np.arange(n) % 3
    rows, columns = np.mgrid[:8, :8]
    centres = np.array([[2, 2], [5, 5], [2, 5]])[labels] + rng.normal(size=(n, 2)) * 0.3
    spots = np.exp(-((rows - centres[:, 0, None, None]) ** 2 + (columns - centres[:, 1, None, None]) ** 2) / 2)
    return (255 * spots[..., None]).astype(np.uint8), labels.astype(np.int64)


@pytest.mark.parametrize("options", [{"channels": (4, 4)}, {"arch": "dense"}], ids=["conv", "dense"])
def test_a_classifier_learns_saves_and_shows_features(tmp_path, options):
    images, labels = blobs()
    model = Classifier((8, 8, 1), Stream(0), classes=3, width=6, **options)
    data = mv.data.Dataset("blobs", images[:180], labels[:180], images[180:], labels[180:])
    trainer = mv.fit(model, data, CrossEntropy(), epochs=15, batch_size=20, lr=5e-3, progress=False)
    assert trainer.why_eager == ""
    assert trainer.metrics[-1]["test"]["error"] < 0.1
    seen = inference.features(model, images[:9])
    assert seen.shape == (9, 6)
    assert (seen >= 0).all()
    assert (inference.classify(model, images) == labels).mean() > 0.9
    logits = model.logits(images[:4] / np.float32(255)).data.astype(np.float64)
    expected = logits[np.arange(4), labels[:4]] - np.log(np.exp(logits).sum(axis=1))
    assert_allclose(model.log_prob(images[:4] / np.float32(255), labels[:4]).data, expected, rtol=1e-5, atol=1e-6)
    save(model, tmp_path / "model.npz")
    np.testing.assert_array_equal(inference.features(load(tmp_path / "model.npz"), images[:9]), seen)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="sharpness: images are uint8"):
        sharpness(np.zeros((2, 5, 5, 1), np.uint8))
    with pytest.raises(UsageError, match="k is 5"):
        likeness(rng.normal(size=(5, 2)), rng.normal(size=(9, 2)))
    with pytest.raises(ShapeError, match="frechet_distance"):
        frechet_distance(rng.normal(size=(5, 2)), rng.normal(size=(5, 3)))
    with pytest.raises(UsageError, match="mode_count"):
        mode_count(np.array([[10, 0, 0]]))
    with pytest.raises(ShapeError, match="stacked"):
        stacked(np.zeros((3, 4, 4, 3)), 5, Stream(0))
    with pytest.raises(UsageError, match="needs a label"):
        mv.fit(Classifier((8, 8, 1), Stream(0), classes=3), blobs()[0], CrossEntropy(), epochs=1, progress=False)
    with pytest.raises(UsageError, match="needs a model with features"):
        mv.Trainer(mv.VAE((8, 8, 1), Stream(0)), None, CrossEntropy())
