"""Every script in demos/ runs at its tiniest, checks its own claims and writes what it promises; and a claim that fails ends it."""

import importlib
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from minivae import VAE, Stream
from minivae.data import Faces, coloured_digits
from minivae.distributions import mixture

SHARED = {"stage", "photos"}
DEMOS = sorted(demo for demo in (Path(__file__).parents[1] / "demos").glob("*.py") if demo.stem not in SHARED)
MEASURES = {"peak"}  # scripts that measure, and claim nothing


def run(demo, out, monkeypatch, *more):
    monkeypatch.setattr(sys, "argv", [str(demo), "--tiny", "--out", str(out), *more])
    monkeypatch.syspath_prepend(demo.parent)  # as Python does for a script
    runpy.run_path(str(demo), run_name="__main__")


@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.stem)
def test_a_demo_keeps_its_promises(demo, tmp_path, monkeypatch, capsys):
    run(demo, tmp_path, monkeypatch)
    assert demo.stem in MEASURES or "holds: " in capsys.readouterr().out
    promised = set(re.findall(r'\bout / "([\w-]+\.(?:png|svg|gif))"', demo.read_text("utf-8")))
    assert promised, "no picture is written into --out"
    assert {file.name for file in tmp_path.iterdir()} >= promised
    assert all(file.stat().st_size > 1000 for file in tmp_path.glob("*.png"))


def test_the_faces_may_be_ones_own_photographs(tmp_path, monkeypatch, capsys):
    """A folder as CelebA comes: 178 x 218 pixels, JPEG, and a table with two lines of header whose values are 1 and -1."""
    Image = pytest.importorskip("PIL.Image")
    faces = Faces()
    indices = faces.choose(600, Stream(0))
    values = faces.factors(indices)
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    noted = {"Eyeglasses": values[:, 7] == 1, "Pale_Skin": values[:, 0] > 4, "Black_Hair": values[:, 1] < 3}
    for i, image in enumerate(faces.images(indices)):
        Image.fromarray(image).resize((178, 218)).save(folder / f"{i + 1:06}.jpg")
    rows = [f"{i + 1:06}.jpg " + " ".join(f"{2 * v[i] - 1:2d}" for v in noted.values()) for i in range(600)]
    (folder.parent / "list_attr_celeba.txt").write_text("\n".join(["600", " ".join(noted), *rows]) + "\n")
    run(DEMOS[0].parent / "faces.py", tmp_path / "out", monkeypatch, "--data-dir", str(folder))
    said = capsys.readouterr().out
    assert "3 attributes of list_attr_celeba.txt" in said
    assert "resized on the shorter side and cut to 16x16" in said
    assert {"Eyeglasses", "Pale_Skin", "Black_Hair", "brightness", "warmth", "saturation"} <= set(said.split())
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"faces.png", "faces_traversals.png"}


class Cut(Exception):
    """Somebody stops a training."""


def test_a_training_that_was_cut_goes_on_where_it_stood(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(DEMOS[0].parent)
    stage = importlib.import_module("stage")
    monkeypatch.setattr(stage, "SAVE_EVERY", 0.0)
    images, seen = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 1), np.uint8), []

    def trained(name, stop=None, lr=1e-3):
        def look(done):
            if done == stop:
                raise Cut
            seen.append(done)
            return images, None

        model = VAE((4, 4, 1), Stream(0), latent=2, hidden=(5,))
        stage.train(model, look, 4, file=tmp_path / name, batch_size=8, lr=lr, lr_schedule="cosine")
        return np.concatenate([p.data.ravel() for p in model.parameters()])

    whole = trained("whole.npz")
    with pytest.raises(Cut):
        trained("cut.npz", stop=2)
    np.testing.assert_array_equal(trained("cut.npz"), whole)
    np.testing.assert_array_equal(trained("cut.npz"), whole)  # there is nothing left to do
    assert seen == [0, 1, 2, 3, 0, 1, 2, 3]
    assert "is of another training" not in capsys.readouterr().out
    assert not np.array_equal(trained("cut.npz", lr=2e-3), whole)
    assert "cut.npz is of another training, and is made anew" in capsys.readouterr().out


def test_there_are_demos():
    assert DEMOS


def test_a_claim_that_fails_ends_the_estimator_lab(tmp_path, monkeypatch):
    """Sticking the landing for two samples, passed off as doubly reparameterized."""
    from minivae.evaluate import estimators

    monkeypatch.setattr(estimators, "doubly_reparameterized", estimators.sticking_the_landing)
    with pytest.raises(SystemExit, match="does not hold: for two samples the others are"):
        run(Path(__file__).parents[1] / "demos/estimator_lab.py", tmp_path, monkeypatch)


def draw_wrong_weights(monkeypatch):
    """The prior's components are drawn as if their weights were at a temperature of 1.3."""
    right = mixture.gumbel_max
    monkeypatch.setattr(mixture, "gumbel_max", lambda logits, u: right(logits / 1.3, u))


def swap_two_colours(monkeypatch):
    """The training's colours 3 and 4 trade places: both classes have one of them often and one rarely."""
    right = coloured_digits.draw_colours
    swapped = np.array([0, 1, 2, 4, 3, 5])
    monkeypatch.setattr(coloured_digits, "draw_colours", lambda *arguments: swapped[right(*arguments)])


@pytest.mark.parametrize("plant", [draw_wrong_weights, swap_two_colours])
def test_wrong_colours_end_the_demo_of_coloured_digits(plant, tmp_path, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(SystemExit, match="does not hold: 776 draws have the table's distribution"):
        run(Path(__file__).parents[1] / "demos/colour_digits.py", tmp_path, monkeypatch)
