"""Models side by side: each panel shows its own model, at the places where its codes are."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minivae import plots
from minivae.errors import ShapeError

from .test_plots import Z1, Z2, boxes_overlap, clusters, flat, pictures, rendered, visible_texts

MEANS, LABELS = clusters(10)
SIGMAS = np.random.default_rng(0).uniform(0.01, 0.4, MEANS.shape)
PLACES = np.array([[0.5, -1], [1.5, 1], [-1, 0.3], [0, 0], [-2, -2]])
FIGURES = {
    "codes": lambda: plots.codes({"one": (9 * MEANS, 0.001 * SIGMAS), "two": (0 * MEANS, SIGMAS + 0.8), "both": (MEANS, SIGMAS)}, LABELS),
    "codes of one": lambda: plots.codes({"alone": (MEANS, SIGMAS)}),
    "manifolds": lambda: plots.manifolds({f"model {i}": pictures(20, 20, 28, 28, 1) for i in range(4)}, *plots.manifold_grid(20)[:2]),
    "oblong manifold": lambda: plots.manifolds({"a": pictures(3, 7, 32, 20, 3)}, Z1, Z2),
    "places": lambda: plots.places({name: (MEANS, PLACES, pictures(5, 28, 28, 1)) for name in "ab"}, LABELS),
    "one place": lambda: plots.places({"a": (MEANS, PLACES[:1], pictures(1, 32, 20, 3))}),
}


@pytest.mark.parametrize("dpi", [60, 150])
@pytest.mark.parametrize("name", FIGURES)
def test_every_text_is_legible_whole_and_apart(name, dpi):
    fig = FIGURES[name]()
    height, width, _ = rendered(fig, dpi).shape
    boxes = []
    for text in visible_texts(fig):
        box = text.get_window_extent()
        assert text.get_fontsize() >= 8
        assert min(box.x0, box.y0) >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
        boxes.append((box, text))
    assert boxes
    if not name.endswith("place") and name != "places":  # there letters stand where the places are, and may stand beside a class's name
        for (a, first), (b, second) in itertools.combinations(boxes, 2):
            assert not boxes_overlap(a, b), (first, second)


def test_each_model_has_its_means_above_its_sigmas():
    panels = {"one": (9 * MEANS, SIGMAS / 100), "two": (MEANS, SIGMAS)}
    axes = plots.codes(panels, LABELS).axes
    assert [ax.get_title() for ax in axes] == ["one", "two", "", ""]
    for (means, sigmas), top, bottom in zip(panels.values(), axes[:2], axes[2:], strict=True):
        assert_array_equal(top.collections[0].get_offsets(), means)
        heights = {(p.get_x(), p.get_x() + p.get_width()): p.get_height() for p in bottom.patches}
        assert_allclose(sum(heights.values()), 100)
        for (low, high), height in heights.items():
            assert_allclose(height, 100 * ((sigmas >= low) & (sigmas < high)).mean(), atol=1e-9)


def test_classes_at_one_place_are_not_told_apart():
    collapsed, spread = plots.codes({"one": (1e-3 * MEANS, SIGMAS), "two": (MEANS, SIGMAS)}, LABELS).axes[:2]
    assert {t.get_text() for t in collapsed.texts} == {"1σ", "2σ"}
    assert {t.get_text() for t in spread.texts} == {"1σ", "2σ", *map(str, range(10))}


def test_manifolds_are_beside_each_other_with_whole_numbers_at_their_places():
    left, right = (flat(5, 7, 8, 8), flat(5, 7, 8, 8)[::-1])
    z1, z2 = np.linspace(-2.5, 2.5, 7), np.linspace(-1, 1, 5)
    axes = plots.manifolds({"left": left, "right": right}, z1, z2).axes
    for ax, images in zip(axes, (left, right), strict=True):
        shown = ax.images[0].get_array().reshape(5, 8, 7, 8)
        assert_array_equal(shown[::-1].transpose(0, 2, 1, 3), images[..., 0])
        named = {t.get_text().replace("\N{MINUS SIGN}", "-"): x for t, x in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)}
        assert {k: np.interp(x, np.arange(7), z1) for k, x in named.items()} == pytest.approx({str(t): t for t in range(-2, 3)})


def test_a_place_and_its_image_have_one_letter():
    images = pictures(5, 6, 6, 1)
    top, bottom = plots.places({"a": (MEANS, PLACES, images)}, LABELS).axes
    letters = {t.get_text(): t.xy for t in top.texts if hasattr(t, "xy")}
    assert letters == dict(zip("abcde", map(tuple, PLACES), strict=True))
    assert_array_equal([im.get_array() for im in bottom.images], images[..., 0])
    for letter, image, text in zip("abcde", bottom.images, bottom.texts, strict=True):
        left, right, _, upper = image.get_extent()
        assert text.get_text() == letter
        assert left < text.get_position()[0] < right
        assert upper < text.get_position()[1] < upper + 0.1 * 6


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plots.codes({"a": (MEANS, SIGMAS[:5])}), r"'a' has means \(300, 2\) and sigmas \(5, 2\)"),
        (lambda: plots.codes({"a": (MEANS, 0 * SIGMAS)}), "sigmas above 0"),
        (lambda: plots.codes({}), "at least one"),
        (lambda: plots.places({"a": (MEANS, PLACES, pictures(4, 8, 8, 1))}), r"places \(5, 2\), images \(4, 8, 8, 1\)"),
        (lambda: plots.places({"a": (MEANS, MEANS[:27], pictures(27, 8, 8, 1))}), "P <= 26"),
    ],
)
def test_bad_input_is_told_with_its_numbers(call, words):
    with pytest.raises(ShapeError, match=words):
        call()
