"""Known answers, the reference's bits, and the moments of what comes out."""

import numba
import numpy as np
import pytest
from ulps import ulps

import minivae.kernels.cpu.philox as philox  # the module itself, which numba compiles from
from minivae.errors import UsageError
from minivae.kernels.cpu.elementwise import PARALLEL_FROM
from minivae.kernels.cpu.jit import kernel
from minivae.random import Stream, philox_reference

KEY = Stream(7).key
LARGE = 3 * PARALLEL_FROM + 10


@kernel
def raw(words):
    w = words.copy()
    w[0], w[1], w[2], w[3] = philox.philox(words[0], words[1], words[2], words[3], words[4], words[5])
    return w[:4]


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        (0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (0xFFFFFFFF, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ],
)
def test_known_answers(word, answer):
    """Random123's kat_vectors: counter and key all zeros, and all ones."""
    assert raw(np.full(6, word, np.uint32)).tolist() == answer


@pytest.mark.parametrize("counter", [0, 12345, 2**32 - 3, 2**64 - 2])
@pytest.mark.parametrize("blocks", [0, 1, 6, 1000, PARALLEL_FROM // 4 + 7])
def test_words_are_the_references(counter, blocks):
    words = philox.words(KEY, counter, blocks)
    assert words.dtype == np.uint32
    np.testing.assert_array_equal(words, philox_reference(counter, KEY, blocks))


def stream_at(counter):
    stream = Stream(7)
    stream.counter = counter
    return stream


@pytest.mark.parametrize("counter", [0, 2**40])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 6, 7, 1001, LARGE])
def test_numbers_are_the_streams(counter, n):
    uniform, normal = philox.uniform(KEY, counter, n), philox.normal(KEY, counter, n)
    assert uniform.shape == normal.shape == (n,)
    assert uniform.dtype == normal.dtype == np.float32
    np.testing.assert_array_equal(uniform, stream_at(counter).uniform(n))
    # the formula in float64, sin and cos of an exactly reduced angle; ours errs in log (2 ulp, halved by the root), root, cos (2), product
    u, v = stream_at(counter).uniform((2, -(-n // 2))).astype(np.float64)
    quarter = np.rint(4 * v)
    angle, turn = 2 * np.pi * (v - quarter / 4), quarter.astype(int) % 4
    cosine = np.choose(turn, [np.cos(angle), -np.sin(angle), -np.cos(angle), np.sin(angle)])
    sine = np.choose(turn, [np.sin(angle), np.cos(angle), -np.sin(angle), -np.cos(angle)])
    radius = np.sqrt(-2 * np.log1p(-u))
    assert np.all(ulps(normal, np.concatenate([radius * cosine, radius * sine])[:n]) <= 5)
    # and what the stream itself makes of them in float32, whose angle 2 pi v is rounded: 2^-22 at most
    np.testing.assert_allclose(normal, stream_at(counter).normal(n), rtol=2.0**-20, atol=2.0**-21 * 6)


def test_moments():
    """Within 5 standard errors: E[X^k] of 300,000 uniform and normal numbers, and no correlation between the two of a pair."""
    n = 300_000
    u, z = philox.uniform(KEY, 10**6, n).astype(np.float64), philox.normal(KEY, 2 * 10**6, n).astype(np.float64)
    for k, double_factorial in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert abs((u**k).mean() - 1 / (k + 1)) < 5 * np.sqrt((1 / (2 * k + 1) - 1 / (k + 1) ** 2) / n)
        variance = (1, 3, 15, 105)[k - 1] - double_factorial**2
        assert abs((z**k).mean() - double_factorial) < 5 * np.sqrt(variance / n)
    assert abs((z[: n // 2] * z[n // 2 :]).mean()) < 5 / np.sqrt(n // 2)
    assert abs((u[1:] * u[:-1]).mean() - 1 / 4) < 5 * np.sqrt((1 / 9 - 1 / 16) / n)  # neighbours; the variance of u v is 1/9 - 1/16


def test_bits_do_not_depend_on_threads():
    def draws():
        return [f(KEY, 99, LARGE).tobytes() for f in (philox.words, philox.uniform, philox.normal)]

    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = draws()
    finally:
        numba.set_num_threads(before)
    assert draws() == alone


def test_a_long_serial_loop_makes_the_same_numbers():
    n = LARGE // 4 * 4
    numbers = np.empty((4, n // 4), np.float32)
    philox._uniform(0, n // 4, np.uint64(KEY), np.uint64(0), numbers)
    numbers = numbers.reshape(-1)
    philox._box_muller(0, n // 2, numbers[: n // 2], numbers[n // 2 :])
    assert numbers.tobytes() == philox.normal(KEY, 0, n).tobytes()


def test_a_negative_count_is_refused():
    for f in (philox.words, philox.uniform, philox.normal):
        with pytest.raises(UsageError, match="-1"):
            f(KEY, 0, -1)
