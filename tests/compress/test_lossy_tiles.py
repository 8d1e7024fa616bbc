"""Tiles are no part of a photo's file: whoever works at whatever part at once, the same latents and the same picture, in little memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

import minivae as mv
from minivae.compress import LossyCoder
from minivae.compress.lossy import STRIDE
from minivae.errors import DataError, UsageError
from minivae.models import Codec

PHOTO = data.astronaut()[40:300, 100:400]
WHOLE = 1 << 14  # pixels a side: all at once


def untrained(**size):
    """With latents and pictures that differ from place to place, as those of a trained one do."""
    made = Codec((32, 32, 3), mv.Stream(3), **size)
    made.down.layers[-1].w.data *= 50
    made.up.layers[0].w.data *= 2
    made.density.log_scales.data += 4
    return made


@pytest.fixture(scope="module")
def model():
    return untrained(channels=5, latent=4)


@pytest.fixture(scope="module")
def whole(model):
    return LossyCoder(model, tile=WHOLE)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_picture_of_tiles_is_the_picture(model, whole, h, w, side, seed):
    """To the byte: of integers, and of floats in one order."""
    y = np.random.default_rng(seed).integers(-30, 31, (h, w, 4))
    np.testing.assert_array_equal(LossyCoder(model, tile=side * STRIDE).picture(y), whole.picture(y))


@given(st.integers(1, 120), st.integers(1, 120), st.integers(1, 4), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_latents_of_tiles_are_the_latents(model, whole, height, width, side, at):
    """But where a float lies between two integers, so near to the middle as kernels of other shapes differ."""
    picture = PHOTO[at : at + height, at : at + width]
    coder = LossyCoder(model, tile=side * STRIDE)
    y, exact = coder.latents(picture), whole.latents(picture)
    assert y.shape == exact.shape == (-(-height // STRIDE), -(-width // STRIDE), 4)
    floats = whole.analysis(np.pad(picture, ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0)), mode="edge"))
    between = abs(abs(floats - np.floor(floats)) - 0.5) < 1e-4
    assert ((y == exact) | between).all()


def test_latents_say_something(whole):
    y = whole.latents(PHOTO)
    picture = whole.picture(y)
    assert len(np.unique(y)) > 20
    assert 20 < picture.std() < 110
    assert ((picture > 0) & (picture < 255)).mean() > 0.5


def test_readers_choose_their_own_tiles(model, whole):
    small, other = LossyCoder(model, tile=32), LossyCoder(model, tile=48)
    file = small.compress(PHOTO)
    assert small.digest == other.digest == whole.digest
    np.testing.assert_array_equal(other.decompress(file), whole.decompress(file))
    np.testing.assert_array_equal(other.decompress(file), whole.picture(small.latents(PHOTO))[:260, :300])


def beside(work, *kept):
    """The most bytes that were in memory at once, without what is kept."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] - sum(kept)
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_a_tile(model, whole):
    """Four times the pixels, and no more beside the picture, its latents and the file; without tiles it is four times as much."""
    coder = LossyCoder(model, tile=64)
    found = {}
    for side in (192, 384):
        picture = np.tile(PHOTO[:192, :192], (side // 192, side // 192, 1))
        file, latents = coder.compress(picture), 2 * 4 * (side // STRIDE) ** 2
        whole.decompress(file)  # nothing is compiled while memory is measured
        found[side] = (
            beside(lambda x=picture: coder.latents(x), latents),
            beside(lambda f=file: coder.decompress(f), latents, picture.nbytes, len(file)),
            beside(lambda f=file: whole.decompress(f), latents, picture.nbytes, len(file)),
        )
    encode, decode, untiled = np.array(found[384]) / np.array(found[192])
    assert encode < 1.1
    assert decode < 1.1
    assert untiled > 3


@pytest.mark.slow
def test_a_photo_of_24_megapixels(model):
    """Beside the pixels there are two numbers of 8 bytes for each of 544 x 544 in the widest layers, a few times."""
    coder = LossyCoder(untrained(channels=2, latent=2))
    picture, made = np.tile(PHOTO, (16, 20, 1))[:4000, :6000], []
    assert beside(lambda: made.append(coder.compress(picture))) < 40e6
    assert beside(lambda: made.append(coder.decompress(made[0])), picture.nbytes) < 40e6
    back = made[1]
    assert back.shape == (4000, 6000, 3)
    part = coder.latents(picture[:704, :704])[:43, :43]  # what lies beyond has no say in these
    np.testing.assert_array_equal(back[: 42 * 16, : 42 * 16], coder.picture(part)[: 42 * 16, : 42 * 16])


def test_what_is_too_large_is_told(model, whole):
    with pytest.raises(DataError, match="a picture of 65536x65536 has more than 268,435,456 pixels"):
        whole.latents(np.broadcast_to(np.uint8(0), (1 << 16, 1 << 16, 3)))
    for tile in (0, 8, 40, -16):
        with pytest.raises(UsageError, match=f"tile is {tile}; need a multiple of 16"):
            LossyCoder(model, tile=tile)
