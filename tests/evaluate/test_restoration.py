"""PSNR by hand and by scikit-image's definition; the linear estimates by regression, the neighbours by scikit-learn."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor

from minivae.errors import ShapeError, UsageError
from minivae.evaluate import GaussianImages, neighbours_mean, psnr

rng = np.random.default_rng(0)
TRAIN = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12)) + rng.normal(size=12)
IMAGES = TRAIN.reshape(400, 3, 4, 1)


def test_the_pooled_error_counts():
    truth = np.zeros((2, 4))
    restored = np.array([[0.0, 0, 0, 0], [0.2, 0.2, 0.2, 0.2]])
    assert_allclose(psnr(restored, truth), 10 * np.log10(1 / 0.02))
    assert_allclose(psnr(255 * restored, truth, 255), psnr(restored, truth))
    assert psnr(truth, truth) == np.inf
    with pytest.raises(ShapeError, match=r"\(2, 4\), truth \(4, 2\)"):
        psnr(truth, truth.reshape(4, 2))


@pytest.mark.parametrize("size", [1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_the_error_of_many_pixels_is_that_of_all(size):
    """They are compared a million at a time; of bytes, whose differences are no bytes."""
    draw = np.random.default_rng(size)
    a, b = draw.integers(0, 256, (2, size), np.uint8)
    a[-1] = b[-1] ^ 255
    error = ((a.astype(int) - b) ** 2).mean()
    assert_allclose(psnr(a, b, 255), 10 * np.log10(255**2 / error), rtol=1e-12)


def test_the_linear_estimate_is_the_regression_on_noisy_pixels():
    """The best linear map from y = x + sigma n to x: fitted on 200 noisy copies of the training images it is found to their own error."""
    sigma, copies = 0.8, 500
    y = np.repeat(TRAIN, copies, axis=0) + sigma * rng.normal(size=(400 * copies, 12))
    fitted = LinearRegression().fit(y, np.repeat(TRAIN, copies, axis=0))
    some = IMAGES[:20] + 0.3
    found = GaussianImages(IMAGES).denoise(some, sigma).reshape(20, 12)
    assert abs(found - fitted.predict(some.reshape(20, 12))).max() < 0.05
    assert abs(found - some.reshape(20, 12)).max() > 1


def test_the_conditional_mean_is_the_regression_on_known_pixels():
    known = np.array([1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1], bool)
    fitted = LinearRegression().fit(TRAIN[:, known], TRAIN[:, ~known])
    x = IMAGES[:9].copy()
    x.reshape(9, 12)[:, ~known] = np.nan
    found = GaussianImages(IMAGES).inpaint(x, known.reshape(3, 4, 1), ridge=0).reshape(9, 12)
    assert_allclose(found[:, ~known], fitted.predict(TRAIN[:9][:, known]), rtol=1e-6)
    assert_allclose(found[:, known], TRAIN[:9][:, known])


@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_are_those_of_another_library(k, monkeypatch):
    monkeypatch.setattr("minivae.evaluate.neighbours.PART", 2000)  # several parts
    known = np.arange(12) < 7
    x = IMAGES[:33] + 0.1
    fitted = KNeighborsRegressor(k).fit(TRAIN[:, known], TRAIN[:, ~known])
    found = neighbours_mean(x, known.reshape(3, 4, 1), IMAGES, k).reshape(33, 12)
    assert_allclose(found[:, ~known], fitted.predict(x.reshape(33, 12)[:, known]))
    assert_allclose(found[:, known], x.reshape(33, 12)[:, known])


def test_bad_input_is_told_with_its_numbers():
    with pytest.raises(UsageError, match="k is 0 of 400"):
        neighbours_mean(IMAGES, np.ones((3, 4, 1), bool), IMAGES, 0)
    with pytest.raises(ShapeError, match=r"known \(3, 3\)"):
        neighbours_mean(IMAGES, np.ones((3, 3), bool), IMAGES)
    with pytest.raises(ShapeError, match="9 of 12 pixels"):
        GaussianImages(IMAGES).inpaint(IMAGES, np.ones((3, 3), bool))
    with pytest.raises(ShapeError, match="uint8"):
        GaussianImages(IMAGES.astype(np.uint8))
