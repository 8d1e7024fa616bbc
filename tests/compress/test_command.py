"""minivae compress and minivae decompress, as a person meets them."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from minivae.cli import main
from minivae.runs import save

from .conftest import images_of, model_of


def call(capsys, *arguments):
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def refused(capsys, *arguments):
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert err.startswith("minivae: ")
    assert err.count("\n") == 1, err
    return err


@pytest.fixture
def model(tmp_path):
    save(model_of("beta_binomial", (8, 7, 3)), tmp_path / "model.npz")
    return tmp_path / "model.npz"


def test_a_folder_of_pictures_comes_back(model, tmp_path, capsys):
    x = images_of("beta_binomial", 5, (8, 7, 3))
    (tmp_path / "in" / "more").mkdir(parents=True)
    for i, pixels in enumerate(x):
        Image.fromarray(pixels).save(tmp_path / "in" / ("more/" if i == 4 else "") / f"{i}.png")
    code, out, _ = call(capsys, "compress", model, tmp_path / "in", "--out", tmp_path / "file", "--block", 2)
    size = (tmp_path / "file").stat().st_size
    assert code == 0
    assert f"5 images 8x7x3 in {size:,} bytes, {8 * size / x.size:.4f} bits a pixel" in out
    assert "not counted: the model" in out
    assert call(capsys, "decompress", model, tmp_path / "file", "--out", tmp_path / "out")[0] == 0
    found = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").iterdir())]
    assert_array_equal(found, x)
    assert (tmp_path / "out" / "00004.png").exists()


def test_an_array_comes_back_by_the_references(model, tmp_path, capsys):
    x = images_of("beta_binomial", 3, (8, 7, 3))
    np.save(tmp_path / "x.npy", x)
    assert call(capsys, "compress", model, tmp_path / "x.npy", "--out", tmp_path / "file")[0] == 0
    code, _, err = call(capsys, "decompress", model, tmp_path / "file", "--out", tmp_path / "y.npy", "--backend", "numpy")
    assert (code, err) == (0, "")
    assert_array_equal(np.load(tmp_path / "y.npy"), x)


def test_vectors_and_gray_images_without_channels(tmp_path, capsys):
    for shape, given in (((9,), (6, 9)), ((5, 4, 1), (6, 5, 4))):
        save(model_of("discretized_logistic", shape), tmp_path / "model.npz")
        x = images_of("discretized_logistic", 6, given[1:])
        np.save(tmp_path / "x.npy", x)
        assert call(capsys, "compress", tmp_path / "model.npz", tmp_path / "x.npy", "--out", tmp_path / "file")[0] == 0
        assert call(capsys, "decompress", tmp_path / "model.npz", tmp_path / "file", "--out", tmp_path / "y.npy")[0] == 0
        assert_array_equal(np.load(tmp_path / "y.npy").reshape(given), x)
    save(model_of("beta_binomial", (9,)), tmp_path / "model.npz")


def test_gray_images_are_drawn_black_and_white(tmp_path, capsys):
    save(model_of("bernoulli", (5, 4, 1)), tmp_path / "model.npz")
    np.save(tmp_path / "x.npy", images_of("beta_binomial", 40))
    arguments = "compress", tmp_path / "model.npz", tmp_path / "x.npy", "--out", tmp_path / "file"
    assert "the model codes black and white, and a pixel is" in refused(capsys, *arguments)
    assert not (tmp_path / "file").exists()
    assert call(capsys, *arguments, "--binarize", "--seed", 4)[0] == 0
    first = (tmp_path / "file").read_bytes()
    assert call(capsys, *arguments, "--binarize", "--seed", 4)[0] == 0
    assert (tmp_path / "file").read_bytes() == first
    assert call(capsys, "decompress", tmp_path / "model.npz", tmp_path / "file", "--out", tmp_path / "out")[0] == 0
    assert len(list((tmp_path / "out").iterdir())) == 40


def test_what_goes_wrong_is_a_sentence(model, tmp_path, capsys):
    x = images_of("beta_binomial", 3, (8, 7, 3))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "floats.npy", x / 255)
    (tmp_path / "text.npy").write_text("nothing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "sizes").mkdir()
    Image.fromarray(x[0]).save(tmp_path / "sizes" / "a.png")
    Image.fromarray(x[0, :5]).save(tmp_path / "sizes" / "b.png")
    Image.fromarray(np.full((8, 7), 700, np.uint16)).save(tmp_path / "deep.png")
    file = tmp_path / "file"
    for images, sentence in (
        (tmp_path / "floats.npy", "holds float64 (3, 8, 7, 3); need bytes"),
        (tmp_path / "text.npy", "is no readable .npy or .npz file"),
        (tmp_path / "empty", "holds no .png"),
        (tmp_path / "sizes", "need images of one size and kind"),
        (tmp_path / "deep.png", "has more than 8 bits a channel, which would be lost"),
        (tmp_path / "none", "there is no "),
        ("digits5k", "images are uint8 (500, 28, 28, 1); the model codes uint8 (N, 8, 7, 3)"),
    ):
        assert sentence in refused(capsys, "compress", model, images, "--out", file)
    assert "blocks of 0 images" in refused(capsys, "compress", model, tmp_path / "x.npy", "--out", file, "--block", 0)
    assert "missing or closed" in refused(capsys, "compress", model, tmp_path / "x.npy", "--out", tmp_path / "no" / "file")
    assert call(capsys, "compress", model, tmp_path / "x.npy", "--out", file)[0] == 0
    out = tmp_path / "out"
    data = file.read_bytes()
    for other, sentence in ((data[:-4], "was cut short"), (data[:50], "cut short"), (b"GIF89a" + data, "is no file of compressed images")):
        (tmp_path / "other").write_bytes(other)
        assert sentence in refused(capsys, "decompress", model, tmp_path / "other", "--out", out)
        assert not out.exists() or not list(out.iterdir())
    (tmp_path / "other").write_bytes(data[:-20] + bytes(20))
    assert "altered" in refused(capsys, "decompress", model, tmp_path / "other", "--out", out)
    assert not list(out.iterdir())
    save(model_of("beta_binomial", (8, 7, 3), activation="elu"), tmp_path / "second.npz")
    assert "was made by another model" in refused(capsys, "decompress", tmp_path / "second.npz", file, "--out", out)
    assert "cannot be read" in refused(capsys, "decompress", model, tmp_path / "none", "--out", out)


@pytest.mark.parametrize(
    ("shape", "likelihood"), [((9, 7, 3), "discretized_logistic"), ((5, 6, 1), "bernoulli"), ((12, 11, 3), "beta_binomial")], ids=str
)
def test_two_layers_from_training_to_the_images(shape, likelihood, tmp_path, capsys):
    """Bit-Swap as a person comes to it: train on files, RGB or gray, of any size, compress, decompress; one layer refuses the file."""
    x = images_of(likelihood, 60, shape)
    (tmp_path / "train").mkdir()
    for i, pixels in enumerate(x):
        Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels).save(tmp_path / "train" / f"{i:02d}.png")
    run = tmp_path / "run"
    command = "train", tmp_path / "train", "--likelihood", likelihood, "--hidden", 8, "--latent", 6, "--epochs", 2, "--batch-size", 10
    assert call(capsys, *command, "--model", "hierarchical", "--top", 2, "--out", run)[0] == 0
    code, out, err = call(capsys, "compress", run, tmp_path / "train", "--out", tmp_path / "file", "--block", 25)
    assert code == 0, err
    assert f"60 images {'x'.join(map(str, shape))} in" in out
    assert call(capsys, "decompress", run, tmp_path / "file", "--out", tmp_path / "out")[0] == 0
    found = np.array([np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").iterdir())])
    assert_array_equal(found.reshape(x.shape), x)
    assert call(capsys, *command, "--out", tmp_path / "one")[0] == 0
    assert "was made by another model" in refused(capsys, "decompress", tmp_path / "one", tmp_path / "file", "--out", tmp_path / "no")
