"""`minivae denoise` and `minivae inpaint`, and masks by name."""

import re

import numpy as np
import pytest
from PIL import Image

from minivae import Stream, data
from minivae.applications import MASKS, named_mask
from minivae.cli import main
from minivae.errors import ShapeError, UsageError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "digits5k", "--epochs", "3", "--hidden", "40", "--latent", "6", "--lr", "5e-3", "--out", str(folder)]) == 0
    return folder


def call(capsys, *arguments):
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def test_noise_that_is_added_is_measured_and_taken_off(run, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    code, out, _ = call(capsys, "denoise", run, "digits5k", "--add-noise", 1, "--count", 30, "--samples", 40, "--draws", 2, "--out", sheet)
    assert code == 0
    assert 0.9 < float(re.search(r"noise measured: sigma = ([\d.]+)", out)[1]) < 1.2
    noisy, restored, drawn = map(float, re.search(r"noisy (\S+) dB, restored (\S+) dB\s+one draw (\S+) dB", out).groups())
    assert noisy + 10 < restored
    assert drawn < restored
    found = np.load(tmp_path / "sheet.npz")
    assert found["mean"].shape == (30, 28, 28, 1)
    assert found["draws"].shape == (2, 30, 28, 28, 1)
    assert sheet.stat().st_size > 5000


def test_a_file_with_noise_that_was_cut_off_is_noticed(run, tmp_path, capsys):
    digit = data.load("digits5k").test_images[0, ..., 0] / 255
    noisy = np.clip(digit + 0.3 * np.random.default_rng(0).normal(size=(28, 28)), 0, 1)
    Image.fromarray(np.rint(255 * noisy).astype(np.uint8)).save(tmp_path / "noisy.png")
    code, out, _ = call(capsys, "denoise", run, tmp_path / "noisy.png", "--samples", 20, "--out", tmp_path / "x.png")
    assert code == 0
    assert "exactly black or white: noise that was cut off there is stronger than it looks; give --sigma" in out
    assert "measured" not in call(capsys, "denoise", run, tmp_path / "noisy.png", "--sigma", 0.3, "--out", tmp_path / "x.png")[1]


def test_masks_of_all_kinds(run, tmp_path, capsys):
    white = np.zeros((28, 28), np.uint8)
    white[14:] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    np.save(tmp_path / "known.npy", white == 0)
    means = []
    for mask in ("bottom", tmp_path / "mask.png", tmp_path / "known.npy"):
        out = tmp_path / "x.png"
        code, text, _ = call(capsys, "inpaint", run, "digits5k", "--mask", mask, "--count", 10, "--samples", 40, "--judge", "--out", out)
        assert code == 0
        assert float(re.search(r"missing pixels: ([\d.]+) dB", text)[1]) > 8
        means.append(np.load(tmp_path / "x.npz")["mean"])
    assert (means[0] == means[1]).all()  # the same half, said in three ways
    assert (means[0] == means[2]).all()
    images = data.to_float(data.load("digits5k").test_images[:10])
    assert (means[0][:, :14] == images[:, :14]).all()
    assert not (means[0][:, 14:] == images[:, 14:]).all()
    assert call(capsys, "inpaint", run, "digits5k", "--mask", "80%", "--count", 2, "--samples", 20, "--draws", 0, "--out", out)[0] == 0


def test_names_of_masks():
    shape = (5, 9, 12, 3)
    for name in MASKS:
        known = named_mask(name, shape, Stream(0))
        assert known.shape == shape[1:]
        assert 0.4 < known.mean() < 0.8
    assert named_mask("top", shape, Stream(0))[8].all()
    assert not named_mask("left", shape, Stream(0))[:, :6].any()
    share = named_mask("80%", shape, Stream(0))
    assert (~share[..., 0]).sum() == round(0.8 * 108)
    assert (share[..., 0] == share[..., 2]).all()
    assert (share != named_mask("80%", shape, Stream(1))).any()
    for name, error, words in (("middle", UsageError, "'middle' is unknown"), ("0%", UsageError, "between 0% and 100%")):
        with pytest.raises(error, match=words):
            named_mask(name, shape, Stream(0))
    with pytest.raises(ShapeError, match="give an array"):
        named_mask("top", (5, 9), Stream(0))


def test_what_does_not_fit_is_told(run, tmp_path, capsys):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "small.png")
    np.save(tmp_path / "floats.npy", np.zeros((28, 28)))
    for arguments, words in (
        (("inpaint", run, "digits5k", "--mask", tmp_path / "small.png"), "is (9, 9), the images are (28, 28)"),
        (("inpaint", run, "digits5k", "--mask", tmp_path / "floats.npy"), "is float64 (28, 28); need bool"),
        (("inpaint", run, "digits5k", "--mask", "middle"), "--mask is middle; choose one of bottom"),
        (("inpaint", run, "digits5k", "--mask", "top", "--samples", 30), "need a multiple of 20"),
        (("denoise", run, "digits5k"), "cut off; give sigma"),
        (("denoise", run, "digits5k", "--add-noise", -1), "--add-noise is -1.0"),
        (("denoise", run, "digits5k", "--sigma", 0), "sigma is 0.0"),
    ):
        code, _, err = call(capsys, *arguments)
        assert code == 2
        assert err.count("\n") == 1
        assert words in err
