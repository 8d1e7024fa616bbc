"""The entropy coder: what goes on the stack comes off it, in as many bits as its probabilities say; every integer is the reference's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minivae import DataError, ShapeError, UsageError
from minivae.compress import Stack
from minivae.compress.rans import LOW, pop_reference, push_reference


@st.composite
def tables(draw, least=0, most=60):
    """(cumulative (n, K + 1), symbols (n,), precision): any frequencies, of which some are 0 and some all there is."""
    precision, n, k = draw(st.integers(1, 32)), draw(st.integers(least, most)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inner = np.sort(rng.integers(0, 2**precision + 1, (n, k - 1)), axis=1)
    cumulative = np.concatenate([np.zeros((n, 1), int), inner, np.full((n, 1), 2**precision)], axis=1)
    slots = rng.integers(0, 2**precision, n)  # only what has a slot can be said
    symbols = (cumulative[:, 1:] <= slots[:, None]).sum(axis=1)
    return cumulative, symbols, precision


def intervals(cumulative, symbols):
    rows = np.arange(len(symbols))
    starts = cumulative[rows, symbols]
    return starts, cumulative[rows, symbols + 1] - starts


@given(tables(), st.integers(1, 9), st.lists(st.integers(0, 2**32 - 1), max_size=8))
def test_what_is_pushed_is_popped(table, lanes, words):
    cumulative, symbols, precision = table
    stack = Stack(words, lanes)
    heads = stack.heads.copy()
    stack.push(*intervals(cumulative, symbols), precision)
    assert (stack.heads >= LOW).all()
    if len(symbols):
        assert_array_equal(stack.pop(cumulative, precision), symbols)
    assert_array_equal(stack.heads, heads)
    assert_array_equal(stack.words(), np.array(words, np.uint32))


@given(tables(), st.integers(1, 5))
def test_every_integer_is_the_references(table, lanes):
    """The states in turns, in Python's integers, with one list of words for all."""
    cumulative, symbols, precision = table
    stack = Stack(lanes=lanes)
    stack.push(*intervals(cumulative, symbols), precision)
    heads, words = [LOW] * lanes, []
    for i, (start, frequency) in enumerate(zip(*intervals(cumulative, symbols), strict=True)):
        heads[i % lanes] = push_reference(heads[i % lanes], words, int(start), int(frequency), precision)
    assert stack.heads.tolist() == heads
    assert stack.words().tolist() == words
    for i in reversed(range(len(symbols))):
        heads[i % lanes], symbol = pop_reference(heads[i % lanes], words, cumulative[i].tolist(), precision)
        assert symbol == symbols[i]
    assert heads == [LOW] * lanes
    assert not words


@given(tables(1, 400))
def test_the_length_is_the_sum_of_the_logarithms(table):
    """32 bits a word, and what the states have grown by.  One push rounds h / f down to a whole number, which costs at most
    log2(1 + f / h) <= 2^(r - 32) / ln 2 bits more or less."""
    cumulative, symbols, precision = table
    stack = Stack()
    starts, frequencies = intervals(cumulative, symbols)
    stack.push(starts, frequencies, precision)
    information = sum(precision - math.log2(f) for f in frequencies)
    length = 32 * stack.size + sum(math.log2(int(h)) - 32 for h in stack.heads)
    assert abs(length - information) <= len(symbols) * 2.0 ** (precision - 32) / math.log(2) + 1e-6
    assert stack.bits <= information + 64 * len(stack.heads) + len(symbols) * 2.0 ** (precision - 32) / math.log(2) + 1e-6


def test_bits_that_nobody_pushed_can_be_popped():
    """Random words, read with any table, are symbols of that distribution: chi squared.  Pushing them back gives the words."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, 4000).astype(np.uint32)
    stack = Stack(words)
    cumulative = np.array([0, 100, 1000, 1001, 4096])
    table = np.tile(cumulative, (20_000, 1))
    symbols = stack.pop(table, 12)
    expected = np.diff(cumulative) / 4096 * 20_000
    counts = np.bincount(symbols, minlength=4)
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # 3 degrees of freedom: one in a thousand
    stack.push(*intervals(table, symbols), 12)
    assert_array_equal(stack.words(), words)


def test_a_message_that_ends_too_early_says_so_and_stays():
    stack = Stack([7])
    table = np.tile([0, 1, 2], (200, 1))
    heads = stack.heads.copy()
    with pytest.raises(DataError, match="ended before its 200 symbols"):
        stack.pop(table, 1)
    assert_array_equal(stack.heads, heads)
    assert stack.words().tolist() == [7]


def test_what_cannot_be_said_is_refused():
    stack = Stack()
    for starts, frequencies, r, message in (
        ([0], [0], 8, "frequencies of 1 or more"),
        ([250], [7], 8, r"within \[0, 256\)"),
        ([-1], [5], 8, "symbols lie in"),
        ([0], [1], 33, "precision is 33 bits; need 1 to 32"),
        ([0.5], [1], 8, "starts are float64; need integers"),
    ):
        with pytest.raises(UsageError, match=message):
            stack.push(starts, frequencies, r)
    with pytest.raises(ShapeError, match="need equal shapes"):
        stack.push([0, 1], [1], 8)
    for table, message in (([0, 5], "rise from 0 to 2\\^3 = 8"), ([1, 8], "rise from 0"), ([0, 6, 5, 8], "rise from 0")):
        with pytest.raises(UsageError, match=message):
            stack.pop(table, 3)
    with pytest.raises(ShapeError, match="need \\(n, K \\+ 1\\)"):
        stack.pop([0], 3)
    with pytest.raises(UsageError, match="lanes is 0"):
        Stack(lanes=0)
    assert_array_equal(stack.heads, np.full(4, LOW, np.uint64))
