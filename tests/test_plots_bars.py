"""Bars, densities and walks, judged by what was drawn."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.testing import assert_allclose, assert_array_equal

from minivae import plots
from minivae.errors import ShapeError
from minivae.plots.bars import PARTS


def test_bars_stand_on_each_other_and_negative_parts_hang():
    parts = {"a": np.array([3.0, 1.0, -0.25]), "b": np.array([2.0, -0.5, -0.5]), "c": np.array([1.0, 4.0, 2.0])}
    (ax,) = plots.stacked_bars(["x", "y", "z"], parts, "Title").axes
    for bars, (name, part), colour in zip(ax.containers, parts.items(), PARTS, strict=False):
        assert bars.get_label() == name
        assert_allclose([bar.get_height() for bar in bars], part)
        assert {to_hex(bar.get_facecolor()).upper() for bar in bars} == {colour}
    feet = np.array([[bar.get_y() for bar in bars] for bars in ax.containers])
    assert_allclose(feet, [[0, 0, 0], [3, 0, -0.25], [5, 1, 0]])
    assert [text.get_text() for text in ax.texts] == ["6.00", "4.50", "1.25"]
    assert_allclose([text.xy[1] for text in ax.texts], [6, 5, 2])  # above what is drawn, not at the sum
    assert [text.get_text() for text in ax.get_xticklabels()] == ["x", "y", "z"]


def test_latents_stand_in_the_order_of_their_kl_and_silent_ones_are_hollow():
    ax = plots.draw_latent_kl(Figure().add_subplot(), np.array([0.1, 2.0, 0.001, 0.5]), np.array([True, True, False, True]))
    assert_allclose([bar.get_height() for bar in ax.patches], [2.0, 0.5, 0.1, 0.001])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["2", "4", "1", "3"]
    assert [bar.get_facecolor()[3] for bar in ax.patches] == [1, 1, 1, 0]
    silent = plots.draw_latent_kl(Figure().add_subplot(), np.full(3, 1e-5), np.zeros(3, bool))
    assert silent.get_ylim()[1] >= 0.01


def gaussian(correlation=0.0):
    """Axes and density: sigma 1 and 1/2 around (1, -1)."""
    axes = np.linspace(-7, 9, 801), np.linspace(-5, 3, 401)
    u, v = np.meshgrid(axes[0] - 1, 2 * (axes[1] + 1), indexing="ij")
    return axes, np.exp(-0.5 * (u * u - 2 * correlation * u * v + v * v) / (1 - correlation**2))


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_levels_of_a_gaussian_are_those_of_its_sigmas(correlation):
    """1 - e^{-r^2 / 2} of a Gaussian lies where it exceeds e^{-r^2 / 2} of its peak, however it is tilted; the grid is off by a cell."""
    _, density = gaussian(correlation)
    radius = np.array([1.0, 2.0, 3.0])
    assert_allclose(plots.mass_levels(density, 1 - np.exp(-(radius**2) / 2)), np.exp(-(radius**2) / 2), rtol=0.01)


def test_a_gaussians_ellipses_are_the_edges_of_its_own_colours():
    """Drawn over the density that it is, the ellipse of 2 sigma has one colour inside and another outside of it."""
    axes, density = gaussian()
    mean, sigma = np.array([1.0, -1.0]), np.array([1.0, 0.5])
    ax = plots.draw_posterior(Figure(figsize=(4, 4)).add_subplot(), axes, density, {"itself": (mean, sigma)})
    ellipses = [patch for patch in ax.patches if isinstance(patch, Ellipse)]
    assert_allclose([[e.width, e.height] for e in ellipses], [[2, 1], [4, 2]])
    assert_allclose([e.center for e in ellipses], [mean] * 2)
    fig = ax.get_figure()
    for ellipse in ellipses:
        ellipse.set_visible(False)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba()).astype(int)

    def colour(r, axis):
        place = mean + r * sigma * (np.arange(2) == axis)
        column, row = ax.transData.transform(place)
        return pixels[len(pixels) - 1 - int(row), int(column), :3]

    for axis in (0, 1):
        bands = np.array([colour(r, axis) for r in (0.85, 1.15, 1.85, 2.15, 2.85, 3.15)])
        assert_array_equal(bands[1], bands[2])
        assert_array_equal(bands[3], bands[4])
        assert (bands[:5:2].sum(axis=1) < bands[1::2].sum(axis=1)).all()  # lighter outwards
        assert bands[5].min() > 250  # nothing beyond 3 sigma


def test_a_walk_shows_its_images_in_order_with_their_steps():
    images = np.random.default_rng(0).uniform(size=(2, 3, 8, 8, 1)).astype(np.float32)
    (ax,) = plots.walks(images, [-1.5, 0, 0.75], ["a", "b"], "Title", "steps").axes
    assert_array_equal([im.get_array() for im in ax.images], images.reshape(6, 8, 8))
    assert [text.get_text() for text in ax.get_xticklabels()] == ["\N{MINUS SIGN}1.5", "0", "+0.75"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.stacked_bars(["a"], {"p": np.zeros(2)}, ""), r"1 names, 1 parts, \{'p': \(2,\)\}"),
        (lambda: plots.stacked_bars(["a"], {}, ""), "1 names, 0 parts"),
        (lambda: plots.stacked_bars(["a"], {"p": np.full(1, np.nan)}, ""), "need finite ones"),
        (lambda: plots.draw_latent_kl(Figure().add_subplot(), np.zeros(3), np.zeros(2)), r"kl is \(3,\), active is \(2,\)"),
        (lambda: plots.walks(np.zeros((1, 2, 4, 4, 1)), [0.0], ["a"], "", ""), "1 steps, 1 labels"),
        (lambda: plots.posteriors(np.zeros((2, 4, 4, 1)), [], [], {}, []), "2 images, 0 axes, 0 densities, 0 titles"),
        (
            lambda: plots.draw_posterior(Figure().add_subplot(), gaussian()[0], np.eye(3), {}),
            r"density is \(3, 3\), axes \[801, 401\]",
        ),
    ],
)
def test_bad_input_is_told_with_its_numbers(call, message):
    with pytest.raises(ShapeError, match=message):
        call()
