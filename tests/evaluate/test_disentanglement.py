"""Scores of representations whose score is known: enumerations of all factors, with latents that are functions of them."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from minivae import ShapeError, Stream, UsageError
from minivae.evaluate import dci, mig, mutual_information, sap
from minivae.evaluate.disentanglement import of_importance

SIZES = (3, 4, 8, 5)
ALL = np.stack(np.meshgrid(*(np.arange(n) for n in SIZES), indexing="ij"), axis=-1).reshape(-1, 4)  # every combination once: (480, 4)
SCORES = {
    "mig": mig,
    "sap": sap,
    "disentanglement": lambda z, v: dci(z, v, Stream(0)).disentanglement,
    "completeness": lambda z, v: dci(z, v, Stream(0)).completeness,
    "informativeness": lambda z, v: dci(z, v, Stream(0)).informativeness,
}
every_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)


def noise(k, seed=0, n=480):
    return np.random.default_rng(seed).normal(size=(n, k))


@every_score
def test_one_factor_a_latent_is_1(score):
    assert_allclose(score(ALL * [1.0, -0.1, 100.0, 7.0] + 3, ALL), 1, rtol=1e-9)
    idle = np.concatenate([ALL, np.zeros((len(ALL), 2))], axis=1)  # collapsed latents cost nothing
    assert_allclose(score(idle, ALL), 1, rtol=1e-9)


@every_score
def test_order_and_units_of_latents_do_not_matter(score):
    """Nor do those of the factors.  Of two equal splits a tree takes the first, so that DCI may change in the third digit."""
    z = ALL @ np.random.default_rng(1).normal(size=(4, 5)) + 0.3 * noise(5)
    before, by_tree = score(z, ALL), score not in (mig, sap)
    assert 0.01 < before < 0.99
    assert_allclose(score(z * [2.0, 0.25, 1024.0, 1.0, 0.5], ALL), before, rtol=1e-9)  # exact in binary: no value changes its bin
    assert_allclose(score(z, ALL * 10 - 7), before, rtol=1e-9)
    assert_allclose(score(z[:, [3, 0, 4, 1, 2]], ALL), before, rtol=0.02 if by_tree else 1e-9)
    assert_allclose(score(z, ALL[:, [2, 3, 0, 1]]), before, rtol=1e-9)


@every_score
def test_a_factor_that_never_varies_does_not_count(score):
    z = ALL @ np.random.default_rng(1).normal(size=(4, 5))
    with_constant = np.insert(ALL, 2, 6, axis=1)
    assert score(z, with_constant) == score(z, ALL)


@pytest.mark.parametrize("name", ["mig", "sap", "disentanglement", "completeness"])
def test_latents_of_noise_score_about_0(name):
    """Two latents' scores of the same factor differ by their fluctuations, of order 1/sqrt(N)."""
    v = np.random.default_rng(3).integers(0, SIZES, (4000, 4))
    assert 0 <= SCORES[name](noise(6, 4, 4000), v) < 3 / math.sqrt(4000)


def test_noise_informs_of_nothing():
    v = np.random.default_rng(3).integers(0, SIZES, (4000, 4))
    assert dci(noise(6, 4, 4000), v, Stream(0)).informativeness < 0.01


def test_two_latents_that_copy_one_factor():
    """Neither is ahead: no gap.  But each latent is about one factor, and disentangled."""
    twice = ALL[:, [0, 0, 1, 1, 2, 2, 3, 3]] * 1.0
    assert mig(twice, ALL) == 0
    assert abs(sap(twice, ALL)) < 1e-12
    assert dci(twice, ALL, Stream(0)).disentanglement == pytest.approx(1)
    one = np.concatenate([ALL, ALL[:, :1]], axis=1)  # only the first factor is copied
    assert mig(one, ALL) == pytest.approx(3 / 4)
    assert sap(one, ALL) == pytest.approx(3 / 4)


def test_information_by_hand():
    """v of 8 values, z = v, v // 2, v // 4, v % 2: log 8, 4, 2, 2.  Other factors share nothing, exactly, for all combinations occur."""
    v = ALL[:, 2]
    z = np.stack([v, v // 2, v // 4, v % 2], axis=1) * 0.1
    assert_allclose(mutual_information(z, ALL)[:, 2], np.log([8, 4, 2, 2]), rtol=1e-12)
    assert_allclose(mutual_information(z, ALL)[:, [0, 1, 3]], 0, atol=1e-12)


def test_mig_by_hand():
    """I(z_0; v_2) = log 8 and I(z_1; v_2) = log 4: a gap of log 2, a third of H = log 8.  v_1 has a latent, v_0 and v_3 have none."""
    z = np.stack([ALL[:, 2], ALL[:, 2] // 2, ALL[:, 1]], axis=1)
    assert mig(z, ALL) == pytest.approx((1 / 3 + 1) / 4, rel=1e-12)
    assert mig(ALL[:, 2:3] // 2, ALL[:, 2:3]) == pytest.approx(2 / 3)  # one latent, one factor: I / H
    unequal = np.array([[0]] * 3 + [[1]])  # H is that of the values as they occur, not log 2
    assert mig(unequal, unequal) == pytest.approx(1)


def test_bins_of_equal_width_by_hand():
    """16 values spread over [0, 1), each by less than the width of its bin: log 16 with 16 bins, log 8 with 8."""
    v = np.repeat(np.arange(16), 100)[:, None]
    z = (v + 0.9 * np.random.default_rng(0).uniform(size=v.shape)) / 16
    z[0], z[-1] = 0, 1
    assert mutual_information(z, v, bins=16)[0, 0] == pytest.approx(math.log(16), rel=1e-12)
    assert mutual_information(z, v, bins=8)[0, 0] == pytest.approx(math.log(8), rel=1e-12)


def test_sap_by_hand():
    """z = (v_3, v_3 + v_2), variances of 2 and 5.25.  Squared correlations: with v_3, 1 and 2 / 7.25; with v_2, 0 and 5.25 / 7.25."""
    z = np.stack([ALL[:, 3], ALL[:, 3] + ALL[:, 2]], axis=1)
    assert sap(z, ALL) == pytest.approx((1 - 2 / 7.25 + 5.25 / 7.25) / 4, rel=1e-12)


def test_sap_of_classes_by_hand():
    """One threshold of z_1 = [v_0 = 2] tells a class of three from the others: balanced accuracy 2/3; z_0 tells all, and 1/3 is chance."""
    v = ALL[:, :1]
    z = np.stack([np.array([5, 1, 9])[ALL[:, 0]], ALL[:, 0] == 2], axis=1)
    assert sap(z, v, categorical=[0]) == pytest.approx(1 - 2 / 3)
    assert sap(z[:, :1], v, categorical=[0]) == pytest.approx(1)
    assert sap(np.stack([z[:, 0], ALL[:, 1]], axis=1), v, categorical=[0]) == pytest.approx(1 - 1 / 3)
    rare = np.array([0] * 90 + [1] * 10)[:, None]  # always naming the frequent class is right in half of the classes
    assert sap(np.zeros((100, 1)), rare, categorical=[0]) == pytest.approx(1 / 2)


def test_disentanglement_and_completeness_by_hand():
    """Rows (1/2, 1/2, 0), (0, 0, 1) and nothing: H is log 2 of log 3, and 0; shares 2/5, 3/5, 0.  Columns with one entry are complete."""
    importance = np.array([[1, 1, 0], [0, 0, 3], [0, 0, 0]]) / 5
    disentanglement, completeness = of_importance(importance)
    assert disentanglement == pytest.approx(0.4 * (1 - math.log(2) / math.log(3)) + 0.6)
    assert completeness == pytest.approx(1)
    disentanglement, completeness = of_importance(importance.T)
    assert disentanglement == pytest.approx(1)
    assert completeness == pytest.approx((1 - math.log(2) / math.log(3) + 1 + 0) / 3)
    assert of_importance(np.full((4, 3), 1 / 4)) == pytest.approx((0, 0))
    assert of_importance(np.ones((1, 1))) == pytest.approx((1, 1))


def test_dci_of_classes():
    """As a number, class 1 stands between 0 and 2, and a fold of the line puts it outside; as classes they are only different."""
    v = np.random.default_rng(0).integers(0, (3, 4), (800, 2))
    z = np.stack([np.array([0.0, 7.0, 3.0])[v[:, 0]], v[:, 1]], axis=1)
    found = dci(z, v, Stream(0), categorical=[0])
    assert_allclose([found.disentanglement, found.completeness, found.informativeness], 1, rtol=1e-9)
    assert_allclose(found.importance, np.eye(2), atol=1e-9)


def test_dci_judges_on_images_it_has_not_seen():
    """A forest can learn noise by heart: on its own images its R^2 would be far above 0."""
    v = np.random.default_rng(0).integers(0, 5, (400, 1))
    assert dci(noise(20, 1, 400), v, Stream(0)).informativeness < 0.05


def test_a_mixture_of_two_factors_by_hand():
    """z = (v_a + v_b, v_a - v_b): a rotation by 45 degrees shares the importance of each factor evenly."""
    v = np.random.default_rng(0).integers(0, 16, (6000, 2))
    z = np.stack([v[:, 0] + v[:, 1], v[:, 0] - v[:, 1]], axis=1)
    found = dci(z, v, Stream(0))
    assert_allclose(found.importance, 0.5, atol=0.1)
    assert found.disentanglement < 0.05
    assert found.informativeness > 0.95
    assert abs(mig(z, v)) < 0.02


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mig(ALL[:10], ALL), ShapeError, r"codes are \(10, 4\), factors are \(480, 4\)"),
        (lambda: mig(ALL[:, 0], ALL), ShapeError, r"codes are \(480,\)"),
        (lambda: mig(ALL, ALL * 1.0), ShapeError, "factors are float64; need integers"),
        (lambda: sap(ALL, ALL * 0), UsageError, "none of the 4 factors varies over the 480 images"),
        (lambda: sap(ALL * math.nan, ALL), UsageError, "1920 of the codes are not finite"),
        (lambda: sap(ALL, ALL, categorical=[4]), UsageError, r"categorical names the columns \[4\] of 4 factors"),
        (lambda: dci(ALL[:39], ALL[:39], Stream(0)), UsageError, "there are 39 images; need at least 40"),
    ],
)
def test_bad_input_is_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
