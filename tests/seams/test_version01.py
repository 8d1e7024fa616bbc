"""Run folders that version 0.1 wrote are opened, give the losses that they gave, and go on as they went on.

`expected.json` has the test losses that 0.1 printed after the second epoch, which is the checkpoint, and after a third.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import minivae as mv
from minivae.data import Dataset

FOLDER = Path(__file__).parent / "version01"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
OBJECTIVES = {"vae": "Elbo", "cvae": "Elbo", "factor": "Factor", "iwae": "Iwae", "capacity": "Capacity", "free": "FreeBits"}


def noise() -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1)).astype(np.uint8)
    labels = np.arange(40) % 3
    return Dataset("noise", images[:24], labels[:24], images[24:], labels[24:])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_of_version_01_goes_on(name, tmp_path):
    shutil.copytree(FOLDER / name, tmp_path / name)
    run, data = mv.Run.open(tmp_path / name, epochs=3), noise()
    assert type(run.trainer.objective).__name__ == OBJECTIVES[name]
    assert [line["epoch"] for line in run.metrics] == [1, 2]
    found = run.trainer.evaluate(data.test_images, data.test_labels, size=24)
    parts = ("reconstruction", "kl")  # a loss with other images of its own, or of another weight, is not told apart by these
    for part in parts:
        assert found[part] == pytest.approx(EXPECTED[name][0][part], rel=1e-4, abs=1e-6)
    run.train(data)
    for part in parts:
        assert run.metrics[-1]["test"][part] == pytest.approx(EXPECTED[name][1][part], rel=1e-3, abs=1e-5)
    again = mv.Run.open(tmp_path / name, epochs=4)  # now in today's form
    assert again.trainer.objective == run.trainer.objective
    assert type(mv.load(FOLDER / name)) is type(run.model)


def test_settings_arrive():
    factor = mv.Run.open(FOLDER / "factor").trainer
    assert (factor.objective.gamma, factor.objective.critic) == (5.0, 3)
    assert factor.optimizers["critic"].steps == factor.optimizers["model"].steps == 6
    assert mv.Run.open(FOLDER / "capacity").trainer.objective == mv.objectives.Capacity(beta=9.0, capacity=4.0)
    assert mv.Run.open(FOLDER / "vae").trainer.objective == mv.objectives.Elbo(kl_warmup=1.5)
    assert mv.Run.open(FOLDER / "cvae").trainer.objective == mv.objectives.Elbo(beta=2.0)
