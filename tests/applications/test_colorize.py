"""Colourings of gray images: a decoder that is known by heart, lightness kept to the last digit, sizes, the file of a model."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from skimage.color import lab2xyz, rgb2lab
from skimage.color.colorconv import rgb_from_xyz

import minivae as mv
from minivae import ShapeError, Stream, UsageError
from minivae.applications import colorize
from minivae.applications.colorize import averaged
from minivae.models import CVAE, MixtureCVAE

GRAY = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 1), np.uint8)


def model(kind=CVAE, **options):
    options = {"prior_kind": "learned"} | options if kind is CVAE else options
    return kind((4, 6, 2), Stream(0), condition=96, latent=3, hidden=(5,), likelihood="laplace", **options)


def known_by_heart(a, b):
    """p(a, b | z, L) has this mean whatever z is."""
    made = model()
    last = made.decoder.layers[-2]
    last.w.data[...] = 0
    last.b.data[...] = np.tile([a, b], 24)
    return made


def test_the_colours_are_the_models_and_the_lightness_is_the_images():
    found = colorize(known_by_heart(20 / 110, -10 / 110), GRAY, Stream(1), samples=2)
    assert found.rgb.shape == (2, 3, 8, 12, 3)
    assert_allclose(found.chroma * 110, np.broadcast_to([20, -10], (2, 3, 4, 6, 2)), rtol=1e-5)
    lab, gray = rgb2lab(found.rgb), rgb2lab(np.repeat(GRAY, 3, axis=-1))
    assert_allclose(lab[..., 0], np.broadcast_to(gray[..., 0], (2, 3, 8, 12)), atol=0.02)
    mid = np.broadcast_to((gray[..., 0] > 30) & (gray[..., 0] < 80), (2, 3, 8, 12))  # where sRGB has this colour
    assert_allclose(lab[mid][:, 1:], np.broadcast_to([20, -10], (mid.sum(), 2)), atol=1e-3)
    dark = np.broadcast_to(gray[..., 0] < 2, (2, 3, 8, 12))
    share = np.linspace(0, 1, 2001)[:, None]  # of (20, -10): what sRGB has of it at L* 2 is not less than at any darker one
    light = lab2xyz(np.concatenate([np.full_like(share, 2), 20 * share, -10 * share], axis=1)) @ rgb_from_xyz.T
    most = share[(light >= -1e-4 / 12.92).all(axis=1)].max()  # a value may be 1e-4 below 0, TOLERANCE
    assert most < 0.6
    assert (np.hypot(*lab[dark][:, 1:].T) <= (most + 1 / 2000) * np.hypot(20, -10)).all()
    assert 0 < found.outside < 0.5


@pytest.mark.parametrize("kind", [CVAE, MixtureCVAE])
def test_draws_differ_and_the_seed_decides(kind):
    a, b = (colorize(model(kind), GRAY, Stream(3), samples=4) for _ in range(2))
    assert_array_equal(a.rgb, b.rgb)
    assert (a.chroma.std(axis=0) > 0).all()
    assert a.rgb.min() >= 0
    assert a.rgb.max() <= 1


def test_any_size_and_kind_of_image_and_no_other():
    made = model()
    gray = GRAY / np.float32(255)
    assert_allclose(colorize(made, gray[..., 0], Stream(1)).chroma, colorize(made, GRAY, Stream(1)).chroma, atol=1e-6)
    large = np.repeat(np.repeat(GRAY, 3, axis=1), 3, axis=2)  # averaged, it is the same to the model
    found = colorize(made, large, Stream(1))
    assert found.rgb.shape == (5, 3, 24, 36, 3)
    assert_allclose(found.chroma, colorize(made, GRAY, Stream(1)).chroma, atol=1e-5)
    with pytest.raises(ShapeError, match=r"gray is \(3, 8, 12, 3\)"):
        colorize(made, np.repeat(GRAY, 3, axis=-1), Stream(0))
    with pytest.raises(UsageError, match=r"float32 from 0.0 to 255.0; need bytes, or floats in \[0, 1\]"):
        colorize(made, np.concatenate([0 * gray, 255 * (0 * gray + 1)]), Stream(0))
    with pytest.raises(UsageError, match=r"the model's data are \(8, 12, 1\), its condition has 0 numbers"):
        colorize(mv.VAE((8, 12, 1), Stream(0), hidden=(3,)), GRAY, Stream(0))
    with pytest.raises(UsageError, match="its condition has 95 numbers"):
        colorize(CVAE((4, 6, 2), Stream(0), condition=95, hidden=(3,)), GRAY, Stream(0))


def test_means_over_parts_of_cells():
    a = np.array([[1.0, 2, 4]])
    assert_allclose(averaged(a, 1, 2), [[(1 + 2 / 2) / 1.5, (2 / 2 + 4) / 1.5]])
    assert_allclose(averaged(a, 1, 6), np.repeat(a, 2, axis=1))
    b = np.random.default_rng(1).normal(size=(2, 7, 3))
    for size in (1, 2, 5, 7, 11):
        assert_allclose(averaged(b, 1, size).mean(axis=1), b.mean(axis=1))


def test_a_saved_model_colours_as_before(tmp_path):
    made = model(MixtureCVAE, components=3)
    mv.save(made, tmp_path / "colours.npz")
    again = mv.load(tmp_path / "colours.npz")
    assert again.components == 3
    assert_array_equal(colorize(again, GRAY, Stream(2)).rgb, colorize(made, GRAY, Stream(2)).rgb)
