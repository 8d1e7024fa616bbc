"""The commands with --device cuda, from training to figures, without a GPU (fake_cupy); and memory that runs out."""

import json
import re

import numpy as np
import pytest

from minivae.cli import main
from minivae.cli import train as training
from minivae.models import gan

from .host import needs_compiler
from .host.fake_cupy import installed
from .host.memory import Now, OutOfMemoryError

pytestmark = needs_compiler


@pytest.fixture
def cupy(monkeypatch):
    with installed(monkeypatch) as module:
        yield module


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, images=rng.integers(0, 256, (40, 6, 5, 1), np.uint8), labels=np.arange(40) % 3)
    return path


def call(*arguments):
    return main([str(a) for a in arguments])


def train(data, folder, *more):
    return call("train", data, "--out", folder, "--epochs", 2, "--batch-size", 8, "--latent", 3, "--hidden", 6, *more)


def measures(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [[*line["train"].values(), *line["test"].values()] for line in lines]


MODELS = {
    "vae": ["--binarize"],
    "cvae": ["--model", "cvae", "--prior", "learned"],
    "hierarchical": ["--model", "hierarchical", "--objective", "iwae", "--samples", "2"],
}


@pytest.mark.parametrize("model", MODELS)
def test_all_that_a_run_is_for_works_on_the_device(cupy, data, tmp_path, model, capsys, monkeypatch):
    monkeypatch.setattr(training, "draw", lambda run, data: None)  # its figures are those of the commands below, with more images
    there, here = tmp_path / "there", tmp_path / "here"
    assert train(data, there, "--device", "cuda", *MODELS[model]) == 0
    assert train(data, here, *MODELS[model]) == 0
    np.testing.assert_allclose(measures(there), measures(here), rtol=1e-4, atol=1e-5)
    assert call("resume", there, "--epochs", 3) == 0
    capsys.readouterr()
    printed = []
    for device in ("cuda", "cpu"):  # where it was trained, and elsewhere
        assert call("evaluate", there, "--device", device, "--samples", 2, "--count", 3) == 0
        printed.append([float(number) for number in re.findall(r"-?\d+\.\d+", capsys.readouterr().out)])
    np.testing.assert_allclose(*printed, rtol=1e-4, atol=2e-3)  # as rounded for printing
    for command in ("sample", "reconstruct", "interpolate"):
        assert call(command, there, "--count", 1) == 0


RIVALS = {
    "gan": ["--model", "gan", "--hidden", "6", "--latent", "3", "--penalty-every", "2"],
    "vaegan": ["--objective", "vaegan", "--hidden", "6", "--latent", "3"],
    "diffusion": ["--model", "diffusion", "--hidden", "6"],
    "unet": ["--model", "diffusion", "--arch", "unet", "--channels", "2", "2"],
}


@pytest.mark.parametrize("rival", RIVALS)
def test_the_rivals_train_on_the_device_too(cupy, data, tmp_path, rival, capsys, monkeypatch):
    monkeypatch.setattr(training, "draw", lambda run, data: None)
    monkeypatch.setitem(gan.HIDDEN, "dense", (6, 5))  # of a VAE-GAN's critic
    there, here = tmp_path / "there", tmp_path / "here"
    for folder, device in ((there, "cuda"), (here, "cpu")):
        assert call("train", data, "--epochs", 2, "--batch-size", 8, "--out", folder, "--device", device, *RIVALS[rival]) == 0
    assert "launched by itself" not in capsys.readouterr().out
    np.testing.assert_allclose(measures(there), measures(here), rtol=1e-3, atol=1e-4)
    assert call("resume", there, "--epochs", 3) == 0
    assert call("evaluate", there, "--samples", 2, "--count", 3) == 0
    for folder, device in ((there, "cuda"), (there, "cpu"), (here, "cuda")):
        assert call("sample", folder, "--count", 1, "--device", device) == 0


def test_the_check_of_gradients_stays_on_the_cpu(cupy, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "draw", lambda run, data: None)
    assert train(data, tmp_path / "run", "--device", "cuda") == 0
    assert call("gradcheck", tmp_path / "run") == 0
    assert call("gradcheck", tmp_path / "run", "--device", "cuda") == 2
    assert "on the CPU; leave --device out" in capsys.readouterr().err


def test_info_names_the_device(cupy, capsys):
    assert call("info") == 0
    assert "a GPU that is none, 1 GiB" in capsys.readouterr().out


@pytest.mark.parametrize("limit", [0, 2**13])  # for the weights, for a step
def test_a_gpu_out_of_memory_is_one_sentence(cupy, data, tmp_path, capsys, limit):
    Now.limit = Now.allocated + limit
    assert train(data, tmp_path / "run", "--device", "cuda") == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"minivae: the GPU is out of memory: .*; use a smaller batch or model, or --device cpu\n", error), error


def test_so_is_a_computer_and_another_error_is_not_hidden(monkeypatch, data, tmp_path, capsys):
    def fails(error):
        def load(*_):
            raise error

        monkeypatch.setattr("minivae.cli.train.load", load)
        return train(data, tmp_path / "run")

    assert fails(MemoryError("Unable to allocate 5 GiB")) == 2
    assert capsys.readouterr().err == "minivae: the computer is out of memory: Unable to allocate 5 GiB; use a smaller batch or model\n"
    with pytest.raises(RuntimeError, match="something else"):
        fails(RuntimeError("something else"))
    driver = type("CUDARuntimeError", (RuntimeError,), {"__module__": "cupy_backends.cuda.api.runtime"})
    assert fails(driver("cudaErrorMemoryAllocation: out of memory")) == 2
    assert "the GPU is out of memory: cudaErrorMemoryAllocation" in capsys.readouterr().err
    assert isinstance(OutOfMemoryError(), MemoryError)
