from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minivae.data import Dataset, batches, binarize, to_float
from minivae.data.dataset import train_test_split
from minivae.errors import DataError, ShapeError, UsageError
from minivae.random import Stream


def numbered(n: int) -> np.ndarray:
    """n images whose first two pixels spell their number."""
    images = np.random.default_rng(1).integers(0, 256, (n, 3, 2, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(n), 256)
    return images


def numbers(batch: np.ndarray) -> list[int]:
    pixels = np.rint(batch.astype(np.float64) * 255).astype(int)
    return (256 * pixels[:, 0, 0, 0] + pixels[:, 0, 1, 0]).tolist()


def test_every_byte_becomes_the_float_nearest_to_its_255th():
    x = to_float(np.arange(256, dtype=np.uint8))
    assert x.dtype == np.float32
    for k, value in enumerate(x):
        error = abs(Fraction(float(value)) - Fraction(k, 255))
        for neighbour in (np.nextafter(value, np.float32(-1)), np.nextafter(value, np.float32(2))):
            assert error < abs(Fraction(float(neighbour)) - Fraction(k, 255))


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(("n", "size"), [(10, 3), (12, 3), (5, 8), (1, 1), (700, 128)])
def test_an_epoch_holds_every_image_once(n, size, shuffled):
    images = numbered(n)
    epoch = list(batches(images, size, Stream(3) if shuffled else None))
    assert [len(b) for b in epoch] == [size] * (n // size) + [n % size] * (n % size > 0)
    for b in epoch:
        assert b.dtype == np.float32
        assert b.flags.c_contiguous
        assert_array_equal(b, to_float(images[numbers(b)]))  # pixels stay with their image
    order = [i for b in epoch for i in numbers(b)]
    assert sorted(order) == list(range(n))
    assert (order == list(range(n))) == (not shuffled or n == 1)


def test_drop_last_drops_only_the_rest():
    images = numbered(10)
    for size in (1, 3, 5, 10):
        kept = list(batches(images, size, Stream(0), drop_last=True))
        every = list(batches(images, size, Stream(0)))
        assert [len(b) for b in kept] == [size] * (10 // size)
        for a, b in zip(kept, every, strict=False):
            assert_array_equal(a, b)


def test_the_order_is_a_function_of_the_stream_and_moves_it_on():
    images, rng = numbered(50), Stream(5)
    first = np.concatenate(list(batches(images, 7, rng)))
    second = np.concatenate(list(batches(images, 7, rng)))
    assert numbers(first) != numbers(second)
    assert numbers(first) == Stream(5).permutation(50).tolist()


def test_bad_batch_sizes_are_told_at_the_call():
    with pytest.raises(UsageError, match="batch_size is 0"):
        batches(numbered(3), 0)
    with pytest.raises(UsageError, match="batch_size 4 exceeds the 3 images"):
        batches(numbered(3), 4, drop_last=True)


def test_binarize_is_a_fresh_bernoulli_draw_with_mean_x():
    n, rng = 40_000, Stream(2)
    x = np.tile(to_float(np.array([0, 1, 64, 128, 254, 255], np.uint8)), (n, 1))
    draw = binarize(x, rng)
    assert draw.dtype == np.float32
    assert set(np.unique(draw)) == {0.0, 1.0}
    mean, p = draw.mean(0, dtype=np.float64), x[0].astype(np.float64)
    assert np.all(np.abs(mean - p) <= 6 * np.sqrt(p * (1 - p) / n))  # 6 standard errors; exact at 0 and 1
    assert np.any(binarize(x, rng) != draw)


def test_the_split_takes_a_tenth_of_every_class_and_loses_nothing():
    images = numbered(1000)
    labels = np.repeat(np.arange(4), (500, 300, 190, 10))
    train, train_labels, test, test_labels = train_test_split(images, labels, Stream(0))
    assert np.bincount(test_labels).tolist() == [50, 30, 19, 1]
    for part, part_labels in ((train, train_labels), (test, test_labels)):
        assert_array_equal(labels[numbers(to_float(part))], part_labels)
        assert np.any(np.diff(part_labels) < 0)  # shuffled, not sorted by class
    assert sorted(numbers(to_float(train)) + numbers(to_float(test))) == list(range(1000))


def test_small_sets_still_have_a_test_image():
    for labels in (None, np.arange(3)):
        train, _, test, _ = train_test_split(numbered(3), labels, Stream(0))
        assert (len(train), len(test)) == (2, 1)
    with pytest.raises(DataError, match="at least 2 images"):
        train_test_split(numbered(1), None, Stream(0))


def test_a_data_set_checks_its_arrays():
    images, labels = numbered(4), np.zeros(4, np.int64)
    assert Dataset("d", images, labels, images, None).image_shape == (3, 2, 1)
    with pytest.raises(ShapeError, match=r"d: train images are float64 \(4, 3, 2, 1\)"):
        Dataset("d", to_float(images).astype(np.float64), labels, images, labels)
    with pytest.raises(ShapeError, match=r"train images are float32 \(3, 2, 1\), test images uint8 \(3, 2, 1\); need equal"):
        Dataset("d", to_float(images), labels, images, labels)
    with pytest.raises(ShapeError, match=r"the train mask is bool \(4,\); need bool \(4, 3, 2, 1\)"):
        Dataset("d", images, labels, images, labels, train_mask=np.ones(4, bool))
    with pytest.raises(ShapeError, match=r"test images are uint8 \(0, 3, 2, 1\)"):
        Dataset("d", images, labels, images[:0], labels[:0])
    with pytest.raises(ShapeError, match=r"test labels are int64 \(3,\); need int64 \(4,\)"):
        Dataset("d", images, labels, images, labels[:3])
    with pytest.raises(ShapeError, match="need equal shapes"):
        Dataset("d", images, None, images[:, :2], None)


def test_binarize_compares_strictly_so_that_the_chance_of_one_is_exactly_x():
    class Known:
        def uniform(self, shape, like):
            return np.array([0.0, 0.5, np.nextafter(np.float32(0.5), np.float32(0))], np.float32)

    assert binarize(np.array([0.0, 0.5, 0.5], np.float32), Known()).tolist() == [0, 0, 1]  # u is a multiple of 2^-24 from 0 up
