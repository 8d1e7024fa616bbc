"""Philox and Stream, judged by the published known answers, by a scalar Philox written here, and by statistics.

Seeds are fixed, so a statistical test passes or fails for good.  Thresholds say how often a fair generator would fail with a seed
drawn afresh: p < 1e-4 for each Kolmogorov-Smirnov or chi-square test, 5 standard errors (6e-7) for each moment.
"""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import stats

from minivae import Stream, UsageError
from minivae.backend import use_backend
from minivae.random import philox_reference

RARE = 1e-4


def philox_scalar(counter, key):
    """Philox4x32-10 of a 128-bit counter and a 64-bit key given as words, least significant first: Salmon et al. 2011, section 3.3."""
    c, k = list(counter), list(key)
    for _ in range(10):
        left, right = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [right >> 32 ^ c[1] ^ k[0], right % 2**32, left >> 32 ^ c[3] ^ k[1], left % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def block(number, key):
    """The four words of one block of a stream: the 64-bit block number is the lower half of the counter."""
    number %= 2**64
    return philox_scalar((number % 2**32, number >> 32, 0, 0), (key % 2**32, key >> 32))


def laid_out(counter, key, n):
    """The n words of a draw that starts at `counter`: word 0 of every block, then word 1, ..."""
    blocks = [block(counter + i, key) for i in range(-(-n // 4))]
    return [b[plane] for plane in range(4) for b in blocks][:n]


def words_of(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_judge_gives_the_known_answers_of_random123(counter, key, answer):
    assert philox_scalar(words_of(counter), words_of(key)) == words_of(answer)


def test_the_first_block_of_key_zero_is_the_known_answer():
    assert philox_reference(0, 0, 1)[:, 0].tolist() == words_of("6627e8d5 e169c58d bc57ac4c 9b00dbd8")


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(1, 5))
@example(2**32 - 2, 1, 5)  # the carry into the second word
@example(2**64 - 2, 2**64 - 1, 5)  # the wrap: block 2^64 is block 0
@example(2**32 + 12345, 2**63, 3)
def test_words_are_philox_of_key_and_counter(counter, key, blocks):
    words = philox_reference(counter, key, blocks)
    assert words.dtype == np.uint32
    assert_array_equal(words.T, [block(counter + i, key) for i in range(blocks)])


@given(st.integers(0, 2**66), st.lists(st.integers(0, 21), min_size=1, max_size=6))
@example(2**64 - 3, [9, 9, 9])
def test_draws_are_laid_out_plane_by_plane_and_share_no_block(counter, sizes):
    stream = Stream(5)
    stream.counter = counter
    for n in sizes:
        assert_array_equal(stream.words(n), np.array(laid_out(counter, stream.key, n), np.uint32))
        counter += -(-n // 4)
        assert stream.counter == counter


def test_a_long_run_never_repeats_a_block():
    stream, seen = Stream(8), 0
    draws = []
    for n in (1, 4095, 1, 6, 10_000, 3, 2, 65_536):
        draws.append(stream.words(n).tolist())
        seen += -(-n // 4)
    assert stream.counter == seen
    # 80,000 words of 2^32 collide by chance about 0.7 times, a repeated block of a draw adds thousands
    counts = Counter(word for draw in draws for word in draw)
    assert sum(count - 1 for count in counts.values()) <= 8


@pytest.mark.parametrize(
    ("n", "blocks32", "blocks64"), [(0, 0, 0), (1, 1, 1), (2, 1, 1), (3, 1, 2), (4, 1, 2), (5, 2, 3), (1000, 250, 500)]
)
def test_the_counter_moves_on_by_the_blocks_used(n, blocks32, blocks64):
    for like, blocks in ((None, blocks32), (np.zeros(1, np.float64), blocks64)):
        stream = Stream(1)
        assert stream.uniform(n, like).shape == (n,)
        assert stream.counter == blocks
    stream = Stream(1)
    assert stream.normal(n).shape == (n,)
    assert stream.counter == blocks32  # pairs: an odd n draws one number more, and never one block more


@pytest.mark.parametrize("draw", [Stream.uniform, Stream.normal])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (4, 5, 3)])
def test_shapes(draw, shape):
    stream = Stream(2)
    assert draw(stream, shape).shape == shape
    flat = draw(Stream(2), int(np.prod(shape)))
    assert_array_equal(draw(Stream(2), shape).reshape(-1), flat)


@pytest.mark.parametrize("draw", [Stream.uniform, Stream.normal])
def test_like_chooses_the_precision(draw):
    pairs = {np.float32: np.float32, np.float64: np.float64, np.complex64: np.float32, np.complex128: np.float64, np.int64: np.float32}
    for given_dtype, expected in pairs.items():
        assert draw(Stream(3), 5, np.zeros(2, given_dtype)).dtype == expected
    assert draw(Stream(3), 5).dtype == np.float32
    double, compound = draw(Stream(3), 5, np.zeros(1)), draw(Stream(3), 5, np.zeros(1, complex))
    assert_array_equal(double, compound)


def test_uniforms_are_the_top_bits_of_the_words():
    stream = Stream(4)
    u32 = stream.uniform(10).astype(np.float64)
    assert_array_equal(u32 * 2**24, [word >> 8 for word in laid_out(0, stream.key, 10)])
    u64 = stream.uniform(7, np.zeros(1))
    words = laid_out(3, stream.key, 14)
    assert [int(u * 2**53) for u in u64] == [(words[i] * 2**32 + words[7 + i]) >> 11 for i in range(7)]
    assert_array_equal(u64 * 2**53, np.floor(u64 * 2**53))


class Stuck(Stream):
    """Every bit of every word is the same."""

    def __init__(self, word):
        super().__init__(0)
        self.word = word

    def words(self, n, like=None):
        return np.full(n, self.word, np.uint32)


@use_backend("numpy")  # the compiled kernels ask no method for their words
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_the_interval(dtype):
    like, bits = np.zeros(1, dtype), np.finfo(dtype).nmant + 1
    assert Stuck(0).uniform(1, like)[0] == 0
    assert Stuck(2**32 - 1).uniform(1, like)[0] == 1 - 2.0**-bits
    assert np.isfinite(Stuck(0).normal(4, like)).all()
    largest = Stuck(2**32 - 1).normal(2, like)
    np.testing.assert_allclose(np.hypot(*largest), np.sqrt(2 * bits * np.log(2)), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_statistics(dtype):
    u = Stream(10).uniform(100_001, np.zeros(1, dtype)).astype(np.float64)
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > RARE
    for lag in (1, 2, 25_001):  # neighbours in a plane, and the words of one block
        assert abs(correlation(u[:-lag], u[lag:])) < 5


def correlation(a, b):
    """The sample correlation in standard errors."""
    return np.corrcoef(a, b)[0, 1] * np.sqrt(len(a))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_statistics(dtype):
    n = 100_000
    x = Stream(11).normal(n, np.zeros(1, dtype)).astype(np.float64)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # E x^2p = (2p - 1)!!
        assert abs((x**power).mean() - mean) < 5 * np.sqrt(variance / n)
    assert stats.kstest(x, "norm").pvalue > RARE
    cosine, sine = x[: n // 2], x[n // 2 :]
    assert abs(correlation(cosine, sine)) < 5
    assert abs(correlation(cosine**2, sine**2)) < 5
    assert stats.kstest(np.arctan2(sine, cosine), stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > RARE


def test_split_streams_are_reproducible_and_independent():
    parent = Stream(12)
    parent.uniform(100)  # a split depends on the key, not on what was drawn
    names = ["data", "noise", "noise ", "", "a long name " * 50]
    children = [parent.split(name) for name in names]
    assert [child.state() for child in children] == [Stream(12).split(name).state() for name in names]
    assert parent.counter == 25
    assert len({stream.key for stream in [parent, *children, Stream(13), Stream(13).split("data"), children[0].split("data")]}) == 9
    draws = [stream.normal(50_000).astype(np.float64) for stream in [Stream(12), Stream(13), *children]]
    for i in range(len(draws)):
        for j in range(i):
            assert abs(correlation(draws[i], draws[j])) < 5


def test_a_state_restored_repeats_the_draws():
    stream = Stream(14)
    stream.normal(37)
    state = stream.state()
    first = stream.normal(9), stream.uniform(3), stream.permutation(5)
    other = Stream(99)
    other.set_state(state)
    assert other.state() == state
    for a, b in zip(first, (other.normal(9), other.uniform(3), other.permutation(5)), strict=True):
        assert_array_equal(a, b)
    assert other.state() == stream.state() != state


@given(st.integers(0, 300), st.integers(0, 2**70))
def test_a_permutation_holds_every_index_once(n, seed):
    order = Stream(seed).permutation(n)
    assert order.dtype == np.int64
    assert_array_equal(np.sort(order), np.arange(n))


def test_permutations_are_uniform():
    stream = Stream(15)
    counts = Counter(tuple(stream.permutation(4).tolist()) for _ in range(4800))
    assert stats.chisquare([counts[order] for order in permutations(range(4))]).pvalue > RARE
    large = np.array([stream.permutation(50) for _ in range(400)])
    assert stats.chisquare(np.bincount(large[:, :5].reshape(-1), minlength=50)).pvalue > RARE


def test_seeds():
    assert Stream(7).state() == Stream(np.int64(7)).state()
    assert len({Stream(seed).key for seed in (0, 1, 2, 2**64, 2**200)}) == 5
    with pytest.raises(UsageError, match="seed -1 is negative; need an integer from 0 up"):
        Stream(-1)
