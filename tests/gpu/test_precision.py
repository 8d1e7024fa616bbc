"""The choice between FP32 and TF32: which kernels it takes, where it is written down, and who may not have it."""

import json
from dataclasses import replace

import numpy as np
import pytest

import minivae as mv
from minivae.backend import gpu, precision
from minivae.cli import main
from minivae.errors import UsageError
from minivae.kernels.gpu.launcher import Kernel

from .host import at_precision, needs_compiler
from .host.fake_cupy import installed


@pytest.fixture
def no_gpu():
    try:
        gpu()
    except UsageError:
        return
    pytest.skip("there is a GPU")


@pytest.mark.usefixtures("no_gpu")
def test_a_cpu_has_no_tensor_cores():
    with pytest.raises(UsageError, match=r"precision tf32 is that of a GPU's tensor cores.*leave it at fp32"), mv.use_precision("tf32"):
        pass
    with mv.use_precision("fp32"):
        assert precision() == "fp32"


def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match="precision 'fp16' is unknown; choose one of fp32, tf32"):
        mv.set_precision("fp16")
    with pytest.raises(UsageError, match="precision 'half' is unknown"):
        mv.TrainingConfig(precision="half")


def test_a_trainer_refuses_a_model_on_the_cpu():
    with pytest.raises(UsageError, match=r"the model is on the CPU; move it there with model.to\('cuda'\)"):
        mv.Trainer(mv.VAE((4, 4, 1), mv.Stream(0), 2), mv.TrainingConfig(precision="tf32"))


@needs_compiler
@pytest.mark.parametrize("chosen", ["fp32", "tf32"])
@pytest.mark.parametrize("arch", ["dense", "conv"])
def test_every_product_of_a_step_is_of_the_chosen_precision(monkeypatch, chosen, arch):
    launched, launch = [], Kernel.__call__
    monkeypatch.setattr(Kernel, "__call__", lambda self, *given: (launched.append(self.name), launch(self, *given))[1])
    with installed(monkeypatch) as cupy:
        model = mv.VAE((8, 8, 1), mv.Stream(0), 2, arch, [5], [3] if arch == "conv" else None).to("cuda")
        trainer = mv.Trainer(model, mv.TrainingConfig(precision=chosen))
        found = trainer.step(cupy.zeros((3, 8, 8, 1), np.float32))
        assert np.isfinite([*found.values()]).all()
        assert precision() == "fp32"
    products = [name for name in launched if name.endswith(("_fp32", "_tf32"))]
    assert len(products) >= 8  # of each of four layers one forward and one of its gradients, or more
    assert {name[-4:] for name in products} == {chosen}


def test_the_choice_ends_with_the_block(monkeypatch):
    with installed(monkeypatch):
        with mv.use_precision("tf32"):
            assert precision() == "tf32"
        assert precision() == "fp32"
        with mv.use_precision("tf32"), mv.use_precision("fp32"):
            assert precision() == "fp32"


def test_the_run_writes_it_down_and_the_command_line_asks(tmp_path, capsys):
    images = tmp_path / "images.npz"
    np.savez(images, images=np.zeros((20, 4, 4, 1), np.uint8))
    train = ["train", str(images), "--epochs", "1", "--hidden", "3", "--latent", "1", "--out", str(tmp_path / "run")]
    assert main([*train, "--precision", "tf32"]) == 2
    said = capsys.readouterr().err
    assert "tensor cores" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert main(train) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["precision"] == "fp32"
    assert main(["resume", str(tmp_path / "run"), "--epochs", "2", "--precision", "tf32"]) == 2
    assert "take the precision fp32" in capsys.readouterr().err
    run = mv.Run.open(tmp_path / "run", precision="fp32")
    assert run.trainer.config == replace(run.trainer.config, precision="fp32")


def test_a_step_at_another_precision_goes_back(monkeypatch):
    """Whoever calls a Trainer of FP32 inside a block of TF32 gets what the config says, and keeps his own."""
    model = mv.VAE((4, 4, 1), mv.Stream(0), 2)
    trainer = mv.Trainer(model, mv.TrainingConfig())
    seen = []
    monkeypatch.setattr(trainer, "update", lambda *_: seen.append(precision()))
    with at_precision("tf32"):
        trainer.step(np.zeros((2, 4, 4, 1), np.float32))
    assert seen == ["fp32"]
