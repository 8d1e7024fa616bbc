"""`minivae score`: numbers, ranks, a table and a sheet, of files, arrays and data sets; and how it refuses."""

import csv
import re

import numpy as np
import pytest
from PIL import Image

from minivae import data
from minivae.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "digits5k", "--epochs", "1", "--hidden", "20", "--latent", "3", "--lr", "5e-3", "--out", str(folder)]) == 0
    return folder


def refused(capsys, *arguments):
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


@pytest.fixture
def folder(tmp_path):
    """Four digits and a picture of noise."""
    (tmp_path / "images").mkdir()
    for i, image in enumerate(data.load("digits5k").test_images[:4]):
        Image.fromarray(image[..., 0]).save(tmp_path / "images" / f"digit{i}.png")
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(noise).save(tmp_path / "images" / "noise.png")
    return tmp_path / "images"


def test_noise_among_digits_comes_first(run, folder, tmp_path, capsys):
    capsys.readouterr()
    assert main(["score", str(run), str(folder), "--out", str(tmp_path / "sheet.png")]) == 0
    out = capsys.readouterr().out
    assert "less_floor of 5 images" in out
    assert re.search(r"\n +1 +[\d.]+ 100.0%  noise.png\n +2 ", out)
    assert re.search(r"AUROC against the test images: 0\.\d+ \(95%: 0\.\d+ to ", out)
    rows = list(csv.DictReader((tmp_path / "sheet.csv").read_text().splitlines()))
    assert [row["rank"] for row in rows] == list("12345")
    assert sorted(row["image"] for row in rows) == [*(f"digit{i}.png" for i in range(4)), "noise.png"]
    scores = [float(row["less_floor"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert (tmp_path / "sheet.png").stat().st_size > 3000


def test_an_array_keeps_its_order_and_one_image_is_enough(run, folder, tmp_path, capsys):
    images = data.load("digits5k").test_images[:30]
    np.save(tmp_path / "some.npy", images)
    for score in ("elbo", "typicality", "residual"):
        capsys.readouterr()
        assert main(["score", str(run), str(tmp_path / "some.npy"), "--score", score, "--out", str(tmp_path / f"{score}.png")]) == 0
        rows = list(csv.DictReader((tmp_path / f"{score}.csv").read_text().splitlines()))
        assert sorted(int(row["image"].split()[1]) for row in rows) == list(range(30))
    assert main(["score", str(run), str(folder / "noise.png"), "--samples", "2"]) == 0
    assert "noise.png" in capsys.readouterr().out
    assert (run / "strangest.csv").exists()


def test_a_data_set_stands_for_its_test_images(run, capsys):
    capsys.readouterr()
    assert main(["score", str(run), "digits5k", "--count", "3"]) == 0
    out = capsys.readouterr().out
    assert "of 500 images" in out
    low, high = map(float, re.search(r"95%: ([\d.]+) to ([\d.]+)", out).groups())
    assert low < 0.5 < high  # the very images of the reference


def test_what_does_not_fit_is_told(run, folder, tmp_path, capsys):
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(folder / "large.png")
    assert "give all one size: --size 28, --gray" in refused(capsys, "score", run, folder)
    assert "images (30, 40, 3), the run's are (28, 28, 1); --size 28 and --gray fit" in refused(capsys, "score", run, folder / "large.png")
    assert main(["score", str(run), str(folder), "--size", "28", "--gray"]) == 0
    assert "'mnits' is unknown" in refused(capsys, "score", run, "mnits")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    assert "is a table" in refused(capsys, "score", run, tmp_path / "t.csv")
    assert "--count is 0" in refused(capsys, "score", run, folder, "--count", 0)
    assert main(["train", "digits5k", "--epochs", "1", "--model", "cvae", "--hidden", "5", "--out", str(tmp_path / "cvae")]) == 0
    assert "has no labels" in refused(capsys, "score", tmp_path / "cvae", folder / "noise.png")
    assert main(["score", str(tmp_path / "cvae"), "digits5k", "--count", "2", "--samples", "1"]) == 0


@pytest.mark.parametrize("model", ["gan", "diffusion"])
def test_a_model_without_an_encoder_gets_one_sentence(model, tmp_path, capsys):
    folder = tmp_path / model
    assert main(["train", "digits5k", "--epochs", "0", "--model", model, "--hidden", "5", "--out", str(folder)]) == 0
    for score in ([], ["--score", "elbo"]):
        assert "has no encode, so there are no scores of images" in refused(capsys, "score", folder, "digits5k", *score)
