"""Figures are judged as they are rendered: by the pixels where an image should be, and by the extents of the texts."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.testing import assert_allclose, assert_array_equal

from minivae import plots
from minivae.errors import ShapeError, UsageError
from minivae.plots.charts import PALETTE
from minivae.plots.factors import GROUPS
from minivae.plots.layout import apart, titled


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def flat(*shape):
    """Images of one gray each, all different.     (..., H, W, 1)"""
    count = math.prod(shape[:-2])
    return np.broadcast_to(np.linspace(0.1, 0.9, count).reshape(*shape[:-2], 1, 1, 1), (*shape, 1)).astype(np.float32)


def history(epochs, loss=100.0):
    def part(i, offset):
        return {"loss": loss + 60 / i + offset, "reconstruction": loss + 60 / i - 20 + offset, "kl": 20 - 5 / i}

    return [{"epoch": i, "seconds": 1.0, "train": part(i, 0.0), "test": part(i, 0.4)} for i in range(1, epochs + 1)]


def clusters(classes, points=30, spread=0.1):
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(classes), points)
    return (rng.normal(size=(classes, 2)) * 1.5)[labels] + spread * rng.normal(size=(len(labels), 2)), labels


def roles(latents, seed=0):
    rng = np.random.default_rng(seed)
    curves = {"scale": rng.normal(size=(latents, 2, 6)), "rotation": rng.normal(size=(latents, 2, 40))}
    variance = 10.0 ** -rng.permutation(latents)  # from 1 down to 1e-9
    return plots.Roles(variance, rng.normal(size=(latents, 8, 8)), curves, flat(latents, 3, 12, 12))


def blobs(n):
    """The arguments of plots.posteriors: tilted Gaussians of different sizes, and two that are not."""
    axes = [tuple(np.linspace(c - 8 * 0.3**i, c + 8 * 0.3**i, 81) for c in (i, -2.0 * i)) for i in range(n)]
    u = np.linspace(-8, 8, 81)
    tilted = [np.exp(-0.5 * np.add.outer(u**2, u**2) + 0.1 * i * np.multiply.outer(u, u)) for i in range(n)]
    spread = np.array([[0.3**i] * 2 for i in range(n)])
    centre = np.array([[i, -2.0 * i] for i in range(n)])
    names = {"the encoder's Gaussian": (centre, spread), "the best Gaussian": (centre + spread, 0.8 * spread)}
    return pictures(n, 28, 28, 1), axes, tilted, names, [f"gap {i + 0.54:.2f} nats\n= 0.02 + 0.52" for i in range(n)]


Z1, Z2 = np.linspace(-3, 3, 7), np.linspace(-1, 1, 3)
FIGURES = {
    "reconstructions": lambda: plots.reconstructions(pictures(24, 28, 28, 1), pictures(24, 28, 28, 1)),
    "one reconstruction": lambda: plots.reconstructions(pictures(1, 28, 28, 1), pictures(1, 28, 28, 1)),
    "large reconstructions": lambda: plots.reconstructions(pictures(12, 256, 256, 3), pictures(12, 256, 256, 3)),
    "samples": lambda: plots.samples(pictures(64, 28, 28, 1), "64 samples"),
    "one sample": lambda: plots.samples(pictures(1, 28, 28, 1), "A title that is much wider than the one sample that it stands above"),
    "three samples": lambda: plots.samples(pictures(3, 32, 20, 3), "3 samples at $^$"),
    "strips": lambda: plots.samples(pictures(30, 1, 784, 1), "Strips"),
    "interpolations": lambda: plots.interpolations(pictures(3, 9, 28, 28, 1), ["7 to 2", "a word to another", "$^$"]),
    "many steps": lambda: plots.interpolations(pictures(1, 40, 28, 28, 1)),
    "groups": lambda: plots.groups(
        {"given": pictures(3, 1, 28, 28, 3), "the answer of a network": pictures(3, 1, 28, 28, 1), "draws": pictures(3, 5, 28, 28, 1)},
        "Three rows",
        ["one", "two", "$^$"],
    ),
    "many groups": lambda: plots.groups({f"group {i}": pictures(1, 3, 28, 28, 1) for i in range(8)}, "A row"),
    "one curve": lambda: plots.loss_curves(history(1)),
    "long curves": lambda: plots.loss_curves(history(500)),
    "negative curves": lambda: plots.loss_curves(history(20, -4000.0)),
    "latent map": lambda: plots.latent_map(
        *clusters(10), ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "$^$", "G", "H", "I", "J"]
    ),
    "latent map of nothing known": lambda: plots.latent_map(clusters(5)[0], None, ()),
    "latent map of one": lambda: plots.latent_map(np.array([[40.0, -3.0]]), np.array([7]), ["Ankle boot"] * 8),
    "latent map of many classes": lambda: plots.latent_map(*clusters(47), []),
    "estimator variance": lambda: plots.estimator_variance(
        np.geomspace(0.01, 1, 5), {"a": {"one": np.ones(5), "two\nlines": np.ones(5), "three": np.arange(1.0, 6)}, "b": {"two": np.ones(5)}}
    ),
    "signal to noise": lambda: plots.signal_to_noise(
        np.array([1, 10, 100, 1000]), {"falls": np.array([1, 0.3, 0.1, 0.03]), "rises": np.array([[1, 3, 10, 30], [1.1, 3.2, 9, 33]])}
    ),
    "latent roles": lambda: plots.latent_roles({"β = 4": roles(10), "β = 0": roles(10, 1)}, ["square", "heart"], ["−3σ", "0", "3σ"]),
    "roles of one latent": lambda: plots.latent_roles({"alone": roles(1)}, ["a", "b"], ["−1", "0", "1"]),
    "named traversals": lambda: plots.named_traversals(
        pictures(9, 7, 32, 32, 3),
        ["eye distance", *"abcdefg$"],
        [f"R² 0.9{i}, purity 0.9{i}" for i in range(9)],
        ["−2σ", "−1.3σ", "−0.67σ", "0", "0.67σ", "1.3σ", "2σ"],
        np.linspace(-0.1, 1, 9 * 12).reshape(9, 12),
        [f"factor {i}" for i in range(12)],
        "R² of each factor",
    ),
    "one named traversal": lambda: plots.named_traversals(
        pictures(1, 3, 64, 64, 3), ["skin"], ["R² 0.9"], ["−1σ", "0", "1σ"], np.ones((1, 2)), ["skin", "hair colour"], "R²"
    ),
    "scores": lambda: plots.scores(
        {"true factors": {"MIG": [1.0], "DCI": [1.0]}, "a model of long name": {"MIG": [0.1, 0.5], "DCI": [0.0]}},
        {"MIG": "of 5", "DCI": ""},
    ),
    "posteriors": lambda: plots.posteriors(*blobs(6)),
    "one posterior": lambda: plots.posteriors(*blobs(1)),
    "stacked bars": lambda: plots.stacked_bars(
        [f"β = {b}" for b in (1, 4, 64)], {"one part": np.array([9, 3, 0.0]), "another": np.array([1, -0.5, 0])}, "The parts of a whole"
    ),
    "many bars": lambda: plots.stacked_bars([str(i) for i in range(14)], {"part": np.linspace(0.0829, 0.1, 14)}, "A part"),
    "walks": lambda: plots.walks(pictures(3, 7, 28, 28, 1), np.linspace(-1.5, 1.5, 7), ["slant", "$^$", "c"], "More and less", "steps"),
    "a short walk": lambda: plots.walks(pictures(1, 2, 8, 8, 1), [-1, 1], ["a latent: 1.25 nats"], "A walk in the latent space", "σ"),
    "manifold": lambda: plots.manifold(pictures(20, 20, 28, 28, 1), *plots.manifold_grid(20)[:2]),
    "oblong manifold": lambda: plots.manifold(pictures(3, 7, 32, 20, 3), Z1, Z2),
    "manifold of one": lambda: plots.manifold(pictures(1, 1, 28, 28, 1), np.zeros(1), np.zeros(1)),
}


def rendered(fig, dpi=100):
    """(rows, columns, 4) bytes"""
    fig.set_dpi(dpi)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def visible_texts(fig):
    """Texts with ink, ticks outside the view left out, as they were last drawn."""
    ticks = {label for ax in fig.axes for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels(which="both")}
    drawn = {tick.label1 for ax in fig.axes for axis in (ax.xaxis, ax.yaxis) for tick in axis._update_ticks()}
    drawn |= {tick.label2 for ax in fig.axes for axis in (ax.xaxis, ax.yaxis) for tick in axis._update_ticks()}
    return [t for t in fig.findobj(Text) if t.get_visible() and t.get_text().strip() and (t not in ticks or t in drawn)]


def gray_at(fig, x, y):
    """The gray, 0 to 1, that is seen at a place of the one Axes."""
    pixels = rendered(fig)
    column, row = fig.axes[0].transData.transform((x, y))
    return pixels[len(pixels) - 1 - int(row), int(column), :3].mean() / 255


def boxes_overlap(a, b):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1  # by more than a dot


@pytest.mark.parametrize("dpi", [60, 150])
@pytest.mark.parametrize("name", FIGURES)
def test_every_text_is_legible_whole_and_apart(name, dpi):
    fig = FIGURES[name]()
    height, width, _ = rendered(fig, dpi).shape
    texts = visible_texts(fig)
    assert texts
    boxes = []
    for text in texts:
        box = text.get_window_extent()
        assert text.get_fontsize() >= 8
        assert min(box.x0, box.y0) >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
        boxes.append(box)
    for i, j in itertools.combinations(range(len(texts)), 2):
        assert not boxes_overlap(boxes[i], boxes[j]), (texts[i], texts[j])


def test_the_check_of_texts_sees_a_clipped_one():
    fig = Figure(figsize=(3, 3))
    fig.text(0.9, 0.5, "much too long for the place")
    box = fig.texts[0].get_window_extent()
    assert rendered(fig).shape[1] < box.x1
    assert fig.texts[0] in visible_texts(fig)


@pytest.mark.parametrize(("N", "columns"), [(1, 1), (3, 3), (10, 10), (11, 6), (24, 8), (101, 10)])
def test_originals_stand_above_their_reconstructions(N, columns):
    originals, reconstructed = pictures(N, 6, 4, 1), pictures(N, 6, 4, 1, seed=1)
    fig = plots.reconstructions(originals, reconstructed)
    (ax,) = fig.axes
    shown = {im.get_array().data.tobytes(): im.get_window_extent() for im in ax.images}
    assert len(ax.images) == 2 * N
    for original, partner in zip(originals[..., 0], reconstructed[..., 0], strict=True):
        above, below = shown[original.tobytes()], shown[partner.tobytes()]
        assert_allclose((above.x0, above.x1), (below.x0, below.x1))
        assert 0 < above.y0 - below.y1 < 0.2 * above.height
        assert_allclose(above.width / above.height, 4 / 6)
    assert len({round(box.x0) for box in shown.values()}) == columns
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == ["original", "reconstruction"] * math.ceil(N / columns)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 8), (7, 9, 3), (50, 3, 9), (30, 1, 64)])
def test_samples_are_all_there_in_reading_order(shape):
    images = flat(*shape)
    fig = plots.samples(images, "Samples")
    rendered(fig)
    boxes = [im.get_window_extent() for im in fig.axes[0].images]
    assert_array_equal([im.get_array() for im in fig.axes[0].images], images[..., 0])
    assert [(-round(b.y1), round(b.x0)) for b in boxes] == sorted((-round(b.y1), round(b.x0)) for b in boxes)
    assert not any(boxes_overlap(a, b) for a, b in itertools.combinations(boxes, 2))
    assert_allclose([b.width / b.height for b in boxes], shape[2] / shape[1])


@pytest.mark.parametrize(("gray", "level"), [(0.0, 0), (0.5, 0.5), (1.0, 1), (-3.0, 0), (7.0, 1)])
@pytest.mark.parametrize("C", [1, 3])
def test_grays_do_not_depend_on_what_else_is_shown(gray, level, C, caplog):
    fig = plots.samples(np.full((1, 8, 8, C), gray, np.float32), "Flat")
    assert_allclose(gray_at(fig, 0, 0), level, atol=1 / 255)
    assert caplog.text == ""  # matplotlib logs what it has to clip


def test_colours_stay_and_other_channels_are_averaged_aloud():
    images = pictures(4, 8, 8, 3)
    assert_array_equal([im.get_array() for im in plots.samples(images, "RGB").axes[0].images], images)
    images = pictures(4, 8, 8, 5)
    fig = plots.samples(images, "Five")
    assert_allclose([im.get_array() for im in fig.axes[0].images], sum(images[..., c] for c in range(5)) / 5, rtol=1e-6)
    assert fig.axes[0].get_title() == "Five (mean of 5 channels)"


def test_groups_stand_side_by_side_under_their_names():
    parts = {"left": pictures(2, 1, 8, 6, 3), "the right": pictures(2, 3, 8, 6, 1, seed=1)}
    fig = plots.groups(parts, "Two groups", ["a", "b"])
    rendered(fig)
    (ax,) = fig.axes
    shown = [im.get_array() for im in ax.images]
    boxes = [im.get_window_extent() for im in ax.images]
    for r in range(2):
        assert_array_equal(shown[4 * r], parts["left"][r, 0])
        for c in range(3):
            assert_array_equal(shown[4 * r + 1 + c], np.repeat(parts["the right"][r, c], 3, axis=-1))
    gaps = [boxes[c + 1].x0 - boxes[c].x1 for c in range(3)]
    assert gaps[0] > 2 * gaps[1] > 0
    assert_allclose(gaps[1], gaps[2])
    names = {t.get_text(): t.get_window_extent() for t in ax.get_xticklabels()}
    assert_allclose((names["left"].x0 + names["left"].x1) / 2, (boxes[0].x0 + boxes[0].x1) / 2, atol=1)
    assert_allclose((names["the right"].x0 + names["the right"].x1) / 2, (boxes[1].x0 + boxes[3].x1) / 2, atol=1)
    assert min(name.y0 for name in names.values()) > boxes[0].y1
    middles = [(t.get_window_extent().y0 + t.get_window_extent().y1) / 2 for t in ax.get_yticklabels()]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert all(boxes[4 * r].y0 < y < boxes[4 * r].y1 for r, y in enumerate(middles))


def test_interpolations_run_from_0_to_1_with_their_ends_framed():
    images = pictures(2, 5, 8, 6, 1)
    fig = plots.interpolations(images, ["first", "second"])
    (ax,) = fig.axes
    pixels = rendered(fig).astype(int)
    boxes = [im.get_window_extent() for im in ax.images]
    assert_array_equal([im.get_array() for im in ax.images], images.reshape(10, 8, 6))
    assert [(t.get_text(), x) for t, x in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)] == [
        ("0", 0), ("0.25", 1), ("0.5", 2), ("0.75", 3), ("1", 4)
    ]  # fmt: skip
    top = boxes[0].y1
    assert all(t.get_window_extent().y0 > top for t in ax.get_xticklabels())
    middles = [((t.get_window_extent().y0 + t.get_window_extent().y1) / 2, t.get_text()) for t in ax.get_yticklabels()]
    assert [(name, boxes[5 * r].y0 < y < boxes[5 * r].y1) for r, (y, name) in enumerate(middles)] == [("first", True), ("second", True)]
    for i, box in enumerate(boxes):
        edge = pixels[len(pixels) - 1 - round((box.y0 + box.y1) / 2), round(box.x0) - 2 : round(box.x0) + 2, :3]
        assert (np.ptp(edge, axis=-1).max() > 100) == (i % 5 in (0, 4))  # a frame of colour, where all else is gray


def test_many_steps_have_few_ticks_at_their_places():
    ax = plots.interpolations(pictures(1, 8, 8, 8, 1)).axes[0]
    assert_allclose([float(t.get_text()) for t in ax.get_xticklabels()], np.array(ax.get_xticks()) / 7)
    assert [t.get_text() for t in ax.get_yticklabels()] == []


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_cells_of_the_manifold_grid_have_equal_shares_of_the_prior(n):
    z1, z2, z = plots.manifold_grid(n)
    share = [math.erfc(-value / math.sqrt(2)) / 2 for value in z1]  # the mass below
    assert_allclose(np.diff([-share[0], *share, 2 - share[-1]]), 1 / n, rtol=1e-12)
    assert z.shape == (n, n, 2)
    for r, c in itertools.product(range(n), range(n)):
        assert tuple(z[r, c]) == (z1[c], z2[r])


def test_manifold_shows_every_image_at_its_z():
    images = flat(3, 7, 8, 4)
    fig = plots.manifold(images, Z1, Z2)
    ax = fig.axes[0]
    assert len(ax.images) == 1
    ticks = []
    for axis in (ax.xaxis, ax.yaxis):
        numbers = [float(t.get_text().replace("\N{MINUS SIGN}", "-")) for t in axis.get_ticklabels()]
        ticks.append(dict(zip(numbers, axis.get_ticklocs(), strict=True)))
    for c, r in itertools.product(range(7), range(3)):
        if Z1[c] in ticks[0] and Z2[r] in ticks[1]:
            assert_allclose(gray_at(fig, ticks[0][Z1[c]], ticks[1][Z2[r]]), images[r, c, 0, 0, 0], atol=2 / 255)  # 256 grays, twice rounded
    assert set(ticks[0]) >= {-3, -2, -1, 0, 1, 2, 3}
    assert set(ticks[1]) >= {-1, 0, 1}
    assert "z_1" in ax.get_xlabel()
    assert "z_2" in ax.get_ylabel()
    box = ax.get_window_extent()
    assert_allclose(box.width / box.height, 7 * 4 / (3 * 8), rtol=1e-6)


@pytest.mark.parametrize("epochs", [1, 2, 20, 500])
def test_curves_are_the_metrics_with_their_final_values(epochs):
    metrics = history(epochs)
    fig = plots.loss_curves(metrics)
    rendered(fig)
    for ax, name in zip(fig.axes, ("loss", "reconstruction", "kl"), strict=True):
        for line, part in zip(ax.lines, ("train", "test"), strict=True):
            assert_array_equal(line.get_xdata(), range(1, epochs + 1))
            assert_array_equal(line.get_ydata(), [m[part][name] for m in metrics])
            (note,) = [t for t in ax.texts if t.get_text().startswith(part)]
            assert_allclose(float(note.get_text().split()[1]), metrics[-1][part][name], atol=0.05)
            assert note.get_color() == line.get_color()
        low, high = ax.get_xlim()
        shown = [t for t in ax.get_xticks() if low <= t <= high]
        assert shown
        assert all(t == round(t) for t in shown)
    assert "nats" in fig.axes[0].get_ylabel()


def test_final_values_are_in_the_order_of_the_curves():
    for sign in (1, -1):
        metrics = [
            {"epoch": 1, **{p: dict.fromkeys(("loss", "reconstruction", "kl"), 5 + sign * v) for p, v in (("train", 0), ("test", 1e-3))}}
        ]
        metrics = [metrics[0] | {"epoch": 0, "train": dict.fromkeys(("loss", "reconstruction", "kl"), 0.0)}, *metrics]
        for ax in plots.loss_curves(metrics).axes:
            train, test = (next(t for t in ax.texts if t.get_text().startswith(part)).get_position()[1] for part in ("train", "test"))
            assert sign * (test - train) > 0


def test_latent_map_shows_every_mean_in_its_class_colour():
    means, labels = clusters(10)
    fig = plots.latent_map(means, labels, [f"name {k}" for k in range(10)])
    (ax,) = fig.axes
    (points,) = [c for c in ax.collections if len(c.get_offsets()) == len(means)]
    assert_array_equal(points.get_offsets(), means)
    assert points.get_rasterized()
    colours = {k: {tuple(c) for c in points.get_facecolors()[labels == k]} for k in range(10)}
    assert all(len(c) == 1 for c in colours.values())
    assert len(set.union(*colours.values())) == 10
    for text in ax.texts:
        if text.get_text().startswith("name"):  # in a darker shade of the same colour
            ((*rgb, _),) = colours[int(text.get_text()[5:])]
            assert_allclose(np.cross(text.get_color(), rgb), 0, atol=1e-12)
            assert sum(text.get_color()) < sum(rgb)
    for _ in range(2):
        rendered(fig)
    ((x0, y0), (x1, y1)) = ax.transData.transform([(0, 0), (1, 1)])
    assert_allclose(x1 - x0, y1 - y0, rtol=1e-6)
    assert sorted(p.radius for p in ax.patches) == [1, 2]


def test_names_stand_at_the_medians_and_apart_where_these_agree():
    far = np.array([[-2.0, 0], [2, 0], [0, 2]])
    labels = np.arange(12) % 3
    means = far[labels]
    means[:3] += 1  # one of each four goes astray
    names = {t.get_text(): t.get_position() for t in plots.latent_map(means, labels, ["a", "b"]).axes[0].texts}
    assert [names[k] for k in ("a", "b", "2")] == [tuple(p) for p in far]
    fig = plots.latent_map(np.zeros((12, 2)), labels, ["first", "second", "third"])
    rendered(fig)
    boxes = [t.get_window_extent() for t in fig.axes[0].texts if t.get_text() in ("first", "second", "third")]
    assert len(boxes) == 3
    assert not any(boxes_overlap(a, b) for a, b in itertools.combinations(boxes, 2))


def test_a_colour_is_used_again_far_away():
    """Twenty classes in a row, k beside k + 10: ten colours suffice to keep every class unlike the three on either side."""
    classes = np.arange(20)
    means = np.stack([2.0 * (classes % 10) + classes // 10, np.zeros(20)], axis=1)
    fig = plots.latent_map(means, classes, ())
    (points,) = [c for c in fig.axes[0].collections if len(c.get_offsets()) == len(means)]
    colours = [tuple(c) for c in points.get_facecolors()]
    for i, j in itertools.combinations(range(20), 2):
        assert colours[i] != colours[j] or abs(means[i, 0] - means[j, 0]) > 3


# G. M. Machado et al., "A physiologically-based model for simulation of color vision deficiency", 2009, severity 1.0, in linear RGB
EYES = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def least_difference(palette, eye):
    """The smallest CIE 1976 colour difference in the palette; about 2.3 can just be noticed side by side."""
    lab = []
    for colour in palette:
        c = np.array(to_rgb(colour))
        linear = np.clip(np.array(EYES[eye]) @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), 0, 1)
        xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear / (0.9505, 1, 1.089)
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        lab.append((116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])))
    return min(math.dist(a, b) for a, b in itertools.combinations(lab, 2))


@pytest.mark.parametrize("eye", EYES)
def test_ten_classes_differ_to_every_eye(eye):
    assert least_difference(PALETTE, eye) > 5 * 2.3
    assert len(PALETTE) == 10


def test_the_check_of_colours_knows_the_usual_palette_for_what_it_is():
    tab10 = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
    assert least_difference(tab10, "normal") > 5 * 2.3 > least_difference(tab10, "protanopia")


def test_a_titled_chart_says_what_its_axes_are():
    fig = Figure(layout="constrained")
    titled(fig.add_subplot(), "Cost", "rate, nats", "time, s")
    rendered(fig)
    places = {t.get_text(): t.get_window_extent() for t in visible_texts(fig)}
    frame = fig.axes[0].get_window_extent()
    assert places["Cost"].y0 > frame.y1
    assert places["rate, nats"].y1 < frame.y0
    assert places["time, s"].x1 < frame.x0


def test_boxes_with_room_are_left_alone_and_a_crowd_is_spread():
    low, high = np.array([-10.0, -10]), np.array([10.0, 10])
    far = np.array([[-5.0, 0], [5, 0], [0, 5]])
    assert_array_equal(apart(far, np.ones((3, 2)), low, high), far)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        places, sizes = rng.normal(size=(12, 2)) * (1, 0.1), rng.uniform(0.5, 2, size=(12, 2))
        moved = apart(places, sizes, low, high)
        assert np.all(np.abs(moved) <= 10 - sizes / 2)
        for i, j in itertools.combinations(range(12), 2):
            assert np.any(np.abs(moved[i] - moved[j]) >= (sizes[i] + sizes[j]) / 2 - 0.02)


GOOD, NAN = np.zeros((4, 8, 8, 1)), np.full((4, 8, 8, 1), np.nan)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plots.reconstructions(GOOD, GOOD[:3]), r"\(4, 8, 8, 1\).*\(3, 8, 8, 1\)"),
        (lambda: plots.reconstructions(GOOD, NAN), "0 of 256 pixels are finite"),
        (lambda: plots.samples(GOOD[0], "x"), r"\(8, 8, 1\)"),
        (lambda: plots.samples(GOOD[:0], "x"), r"\(0, 8, 8, 1\)"),
        (lambda: plots.samples(GOOD.astype(np.uint8), "x"), "uint8.*to_float"),
        (lambda: plots.groups({"a": GOOD[None], "b": GOOD[:, None]}, "x"), r"'b': \(4, 1, 8, 8, 1\).*need equal R"),
        (lambda: plots.groups({"a": GOOD[None]}, "x", ["1", "2"]), "2 labels"),
        (lambda: plots.groups({}, "x"), "at least one group"),
        (lambda: plots.interpolations(GOOD), r"\(4, 8, 8, 1\).*R, S, H, W, C"),
        (lambda: plots.interpolations(GOOD[:, None]), "4 rows of 1 images"),
        (lambda: plots.interpolations(GOOD[None], ["a", "b"]), "1 rows of 4 images, 2 labels"),
        (lambda: plots.manifold(GOOD[None], np.arange(4), np.arange(2)), r"\(4,\) and z2 \(2,\); need \(4,\) and \(1,\)"),
        (lambda: plots.manifold(GOOD[None], -np.arange(4), np.arange(1)), "increasing"),
        (lambda: plots.latent_map(np.zeros((5, 3))), r"\(5, 3\)"),
        (lambda: plots.latent_map(np.zeros((0, 2))), r"\(0, 2\)"),
        (lambda: plots.latent_map(np.array([[0, np.inf]])), "1 of 2 numbers finite"),
        (lambda: plots.latent_map(np.zeros((5, 2)), np.zeros(4, int)), r"\(4,\); need \(5,\)"),
        (lambda: plots.latent_map(np.zeros((5, 2)), np.zeros(5)), "float64"),
        (lambda: plots.latent_map(np.zeros((5, 2)), np.full(5, -1)), "from 0 up"),
        (lambda: plots.loss_curves([]), "0 epochs"),
        (lambda: plots.latent_roles({"x": roles(3)}, ["a", "b", "c"], ["0", "1", "2"]), r"scale is \(3, 2, 6\).*\(3, 3, values\)"),
        (lambda: plots.latent_roles({"x": roles(3)}, ["a", "b"], ["0"]), r"\(3, 3, 12, 12, 1\).*\(3, 1, H, W, C\)"),
        (lambda: plots.latent_roles({"x": roles(3)._replace(variance=np.ones(4))}, ["a", "b"], ["0", "1", "2"]), r"variance is \(4,\)"),
        (
            lambda: plots.named_traversals(GOOD[None], ["a"], ["b"], ["0"] * 3, np.ones((1, 2)), ["c"], "R²"),
            r"\(1, 4, 8, 8, 1\), 1 names, 1 notes, 3 moves, the table \(1, 2\), 1 columns",
        ),
        (lambda: plots.scores({"a": {"MIG": [1.0]}, "b": {"SAP": [1.0]}}), "'b': {'SAP': 1}"),
        (lambda: plots.scores({"a": {"MIG": []}}), "at least one value"),
        (lambda: plots.loss_curves([{"epoch": 1, "train": {"loss": 1.0}}]), "1 epochs lacks 'test'"),
    ],
)
def test_bad_input_is_told_with_its_numbers(call, words):
    with pytest.raises(ShapeError, match=words):
        call()


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(UsageError, match="n is 0"):
        plots.manifold_grid(0)


def test_drawing_touches_neither_pyplot_nor_the_settings():
    script = (
        "import sys, numpy as np, matplotlib; before = dict(matplotlib.rcParams); from minivae import plots\n"
        "x = np.zeros((4, 8, 8, 1)); plots.samples(x, 'x').savefig(__import__('io').BytesIO()); plots.reconstructions(x, x)\n"
        "plots.latent_map(np.zeros((3, 2)), np.arange(3), ()); plots.interpolations(x[None]); plots.groups({'x': x[None]}, 'x')\n"
        "plots.manifold(x[None], np.arange(4), np.arange(1))\n"
        "print('matplotlib.pyplot' in sys.modules, dict(matplotlib.rcParams) == before)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_estimators_are_drawn_where_they_are_in_one_colour_each():
    curves = {"a": {"one": np.array([1.0, 2.0]), "two\nlines": np.array([3.0, 4.0])}, "b": {"two": np.array([5.0, 6.0])}}
    left, right = plots.estimator_variance(np.array([0.1, 1.0]), curves).axes
    assert [line.get_ydata().tolist() for line in (*left.lines, *right.lines)] == [[1, 2], [3, 4], [5, 6]]
    colours = {text.get_text(): text.get_color() for ax in (left, right) for text in ax.texts}
    assert colours["two"] == colours["two\nlines"] == right.lines[0].get_color() != colours["one"]


def test_a_reference_slope_has_its_slope():
    k, curve = np.array([1, 10, 100, 1000]), np.array([1, 0.3, 0.1, 0.03])
    (ax,) = plots.signal_to_noise(k, {"falls": curve}, slopes=[-0.5]).axes
    assert_allclose(ax.lines[0].get_ydata(), curve)
    x, y = np.log(ax.lines[1].get_data())
    assert_allclose(np.diff(y) / np.diff(x), -0.5)


@pytest.mark.parametrize("curves", [{}, {"short": np.ones(2)}, {"zero": np.zeros(3)}, {"nan": np.full(3, np.nan)}])
def test_curves_without_a_logarithm_are_refused(curves):
    with pytest.raises(ShapeError, match=r"log-log: x is \(3,\)"):
        plots.estimator_variance(np.array([1.0, 2.0, 3.0]), {"title": curves})


def test_latents_stand_in_the_order_of_their_variance_with_all_that_is_theirs():
    found = roles(4)
    fig = plots.latent_roles({"model": found}, ["a", "b"], ["−3σ", "0", "3σ"])
    rendered(fig)
    columns = {}
    for ax in fig.axes:
        columns.setdefault(round(ax.get_position().x0, 6), []).append(ax)
    order = np.argsort(found.variance)
    assert len(columns) == 4
    for k, x in zip(order, sorted(columns), strict=True):
        place, scale, rotation, *images, variance = sorted(columns[x], key=lambda ax: -ax.get_position().y0)
        assert_array_equal(place.images[0].get_array(), found.place[k])
        for ax, name in ((scale, "scale"), (rotation, "rotation")):
            assert_array_equal([line.get_ydata() for line in ax.lines[1:]], found.curves[name][k])
            assert [line.get_color() for line in ax.lines[1:]] == list(GROUPS[:2])
        assert_array_equal([ax.images[0].get_array() for ax in images], found.traversals[k, ..., 0])
        assert variance.patches[0].get_width() == found.variance[k]
    assert {text.get_text(): text.get_color() for text in fig.texts if text.get_text() in "ab"} == dict(zip("ab", GROUPS, strict=False))
    assert len({im.get_clim() for ax in fig.axes for im in ax.images if im.get_cmap().name == "viridis"}) == 1


def test_a_bar_is_the_mean_of_the_dots_on_it():
    fig = plots.scores({"a": {"MIG": [0.2, 0.6], "SAP": [0.5]}, "b": {"MIG": [0.1], "SAP": [1.0]}})
    assert [[bar.get_width() for bar in ax.patches] for ax in fig.axes] == [pytest.approx([0.4, 0.1]), pytest.approx([0.5, 1.0])]
    assert [line.get_xdata().tolist() for line in fig.axes[0].lines] == [[0.2, 0.6]]
    assert [text.get_text() for text in fig.axes[0].texts] == ["0.40", "0.10"]
