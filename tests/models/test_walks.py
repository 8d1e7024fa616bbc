"""Walks in the latent space: by their norms, angles and ends."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minivae import ShapeError, UsageError
from minivae.models import attribute_direction, lerp, slerp, traversal

T = np.linspace(0, 1, 9)


def draws(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@given(st.integers(0, 10**6), st.integers(2, 30))
def test_both_start_and_end_at_the_ends(seed, k):
    a, b = draws(seed, 2, 4, k)
    for walk in (lerp(a, b, T), slerp(a, b, T)):
        assert walk.shape == (4, 9, k)
        assert_allclose(walk[:, 0], a, atol=1e-12)
        assert_allclose(walk[:, -1], b, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(2, 30))
def test_the_arc_turns_at_one_speed_and_keeps_the_norm(seed, k):
    """Ends of one norm: every point has it, and every step turns by the same angle, which is no larger than a half turn in all."""
    a, b = draws(seed, 2, 3, k)
    b *= np.linalg.norm(a, axis=-1, keepdims=True) / np.linalg.norm(b, axis=-1, keepdims=True)
    walk = slerp(a, b, T)
    length = np.linalg.norm(a, axis=-1)
    assert_allclose(np.linalg.norm(walk, axis=-1), np.repeat(length[:, None], 9, axis=1), rtol=1e-9)
    steps = 2 * np.arcsin(np.linalg.norm(np.diff(walk, axis=1), axis=-1) / (2 * length[:, None]))
    assert_allclose(steps, np.repeat(steps[:, :1], 8, axis=1), rtol=1e-7)
    assert (steps.sum(axis=1) <= math.pi).all()


@given(st.integers(0, 10**6), st.integers(2, 30))
def test_the_norms_at_the_middle(seed, k):
    """That of the line is the cosine rule's; that of the arc is no less than the geometric mean of the ends'."""
    a, b = draws(seed, 2, k)
    line, arc = lerp(a, b, [0.5])[0], slerp(a, b, [0.5])[0]
    assert_allclose(line @ line, (a @ a + b @ b + 2 * a @ b) / 4, rtol=1e-9)
    assert arc @ arc >= math.sqrt((a @ a) * (b @ b)) * (1 - 1e-9)
    assert_allclose(arc / np.linalg.norm(arc), line / np.linalg.norm(line), atol=1e-7)  # in one direction, half way


def test_the_arc_between_ends_of_one_direction_is_the_line():
    a = draws(3, 5)
    for b in (a, 3 * a, a + 1e-9 * draws(4, 5)):
        assert_allclose(slerp(a, b, T), lerp(a, b, T), rtol=1e-7)


def test_a_quarter_of_a_turn():
    assert_allclose(slerp([2.0, 0], [0, 2.0], [1 / 3]), [[math.sqrt(3), 1.0]])


def test_a_traversal_changes_one_latent():
    z = draws(5, 3, 4)
    walk = traversal(z, 2, [-3.0, 0.0, 3.0])
    assert walk.shape == (3, 3, 4)
    assert_array_equal(walk[..., 2], np.tile([-3.0, 0.0, 3.0], (3, 1)))
    for k in (0, 1, 3):
        assert_array_equal(walk[..., k], np.repeat(z[:, k : k + 1], 3, axis=1))
    assert_array_equal(z, draws(5, 3, 4))  # which is not written to


def test_a_direction_within_classes_leaves_the_class_out():
    """Codes = class centre + attribute: in class 1 nearly all have the attribute, so that the plain difference holds the centre, too."""
    groups = np.repeat([0, 1], 100)
    holds = np.concatenate([np.arange(100) < 10, np.arange(100) < 90])
    codes = np.stack([10.0 * groups, 2.0 * holds], axis=1)
    assert_allclose(attribute_direction(codes, holds, groups), [0, 2], atol=1e-12)
    assert_allclose(attribute_direction(codes, holds), [8, 2])
    alone = np.concatenate([codes, [[77.0, 77.0]]]), np.append(holds, True), np.append(groups, 5)  # of one kind: tells nothing
    assert_allclose(attribute_direction(*alone), [0, 2], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lerp(np.zeros(3), np.zeros(2), T), ShapeError, r"a is \(3,\), b is \(2,\), t is \(9,\)"),
        (lambda: slerp(np.zeros(3), np.ones(3), T), UsageError, "an end is 0"),
        (lambda: slerp(np.ones(3), -2 * np.ones(3), T), UsageError, "opposite"),
        (lambda: traversal(np.zeros(3), 3, T), ShapeError, "latent is 3"),
        (lambda: attribute_direction(np.zeros((3, 2)), [True] * 3), UsageError, "3 of 3 images have it"),
        (lambda: attribute_direction(np.zeros((3, 2)), [True] * 2), ShapeError, r"codes are \(3, 2\), holds \(2,\)"),
    ],
)
def test_bad_input_is_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
