"""One scale by scikit-image, five by two-dimensional convolutions of SciPy; the blocks of a JPEG show, those of a picture do not."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.signal import convolve2d
from skimage import data
from skimage.metrics import structural_similarity

from minivae.errors import ShapeError
from minivae.evaluate import blocking, ms_ssim, ssim

rng = np.random.default_rng(0)
PHOTO = data.astronaut()[100:291, 120:330]  # 191 x 210
NOISY = np.clip(PHOTO + rng.normal(0, 20, PHOTO.shape), 0, 255)


def jpeg(x, quality):
    file = io.BytesIO()
    Image.fromarray(x).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("other", [NOISY, jpeg(PHOTO, 5), 255 - PHOTO], ids=["noise", "jpeg", "negative"])
def test_one_scale_is_that_of_another_library(other):
    exact = structural_similarity(
        PHOTO.astype(float),
        other.astype(float),
        data_range=255,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert abs(ssim(PHOTO, other, 255) - exact) < 1e-8
    assert abs(ssim(PHOTO / 255, other / 255) - exact) < 1e-8  # in other units
    gray = structural_similarity(
        PHOTO[..., 0] / 255, other[..., 0] / 255, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert abs(ssim(PHOTO[..., 0] / 255, other[..., 0] / 255) - gray) < 1e-8


def five_scales(x, y, peak):
    """The definition, a channel at a time."""
    t = np.arange(-5, 6)
    window = np.exp(-(t[:, None] ** 2 + t**2) / (2 * 1.5**2))
    window /= window.sum()

    def moment(a):
        return convolve2d(a, window, mode="valid")

    results = []
    for c in range(3):
        a, b, powers = x[..., c], y[..., c], []
        for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
            ma, mb = moment(a), moment(b)
            va, vb, vab = moment(a**2) - ma**2, moment(b**2) - mb**2, moment(a * b) - ma * mb
            index = (2 * vab + (0.03 * peak) ** 2) / (va + vb + (0.03 * peak) ** 2)
            if scale == 4:
                index = index * (2 * ma * mb + (0.01 * peak) ** 2) / (ma**2 + mb**2 + (0.01 * peak) ** 2)
            powers.append(max(index.mean(), 0) ** weight)
            a, b = (u.reshape(len(u) // 2, 2, -1, 2).mean(axis=(1, 3)) if scale < 4 else u for u in (a, b))
        results.append(np.prod(powers))
    return np.mean(results)


@pytest.mark.parametrize("other", [NOISY, jpeg(PHOTO, 5)], ids=["noise", "jpeg"])
def test_five_scales_are_their_definition(other):
    exact = five_scales(PHOTO[:176, :208].astype(float), other[:176, :208].astype(float), 255)
    assert abs(ms_ssim(PHOTO, other, 255) - exact) < 1e-10
    assert 0.5 < exact < 1


def test_the_ends():
    assert abs(ms_ssim(PHOTO, PHOTO, 255) - 1) < 1e-12
    assert ms_ssim(PHOTO, 255 - PHOTO, 255) == 0  # what is anticorrelated has a negative contrast, and no power of it
    assert ms_ssim(PHOTO, jpeg(PHOTO, 50), 255) > ms_ssim(PHOTO, jpeg(PHOTO, 10), 255)


def test_blocks_show():
    assert abs(blocking(PHOTO) - 1) < 0.05
    assert blocking(jpeg(PHOTO, 5)) > 1.5
    x = np.zeros((17, 17))
    x[8:] = 1  # one step across an edge: 17 of 2 * 2 * 17 pairs at edges, none elsewhere
    assert blocking(x) == np.inf
    x[3:] += 0.5
    at_edges, elsewhere = 17 / (4 * 17), 0.5 * 17 / (28 * 17)
    assert abs(blocking(x) - at_edges / elsewhere) < 1e-12
    assert blocking(np.ones((20, 30, 3))) == 1


def test_bad_input_is_told_with_its_numbers():
    with pytest.raises(ShapeError, match=r"\(191, 210, 3\) and \(191, 210\)"):
        ssim(PHOTO, PHOTO[..., 0])
    with pytest.raises(ShapeError, match="175x200; need 176"):
        ms_ssim(PHOTO[:175, :200], PHOTO[:175, :200])
    with pytest.raises(ShapeError, match=r"\(8, 9\), blocks have 8"):
        blocking(np.zeros((8, 9)))
