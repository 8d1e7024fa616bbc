"""Runs that end badly, or go on with other settings: nothing is lost, and what happens is said."""

import json

import numpy as np
import pytest

import minivae as mv
from minivae.cli import main
from minivae.errors import NonFiniteError


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "images.npz"
    rng = np.random.default_rng(0)
    np.savez(path, images=rng.integers(0, 256, (40, 4, 4, 1), np.uint8), labels=np.arange(40) % 3)
    return path


def train(images, out, *more):
    return main(["train", str(images), "--hidden", "4", "--latent", "2", "--batch-size", "9", "--out", str(out), *map(str, more)])


def test_weights_that_the_last_step_of_an_epoch_ruined_are_not_saved(images, tmp_path):
    data = mv.data.load(images)
    config = mv.TrainingConfig(epochs=3, batch_size=100, optimizer="sgd", lr=1e-3)
    run = mv.Run.start(tmp_path / "run", data, {"latent": 2, "hidden": [4]}, config)

    def after(line):
        if line["epoch"] == 2:
            run.trainer.rates["model"] = 1e36

    with (
        np.errstate(all="ignore"),
        pytest.raises(NonFiniteError, match=r"epoch 3: .* after its last step; the checkpoint of epoch 2 stays"),
    ):
        run.train(data, epoch=after)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    again = mv.Run.open(tmp_path / "run")
    assert again.epochs_done == 2
    assert all(np.isfinite(a).all() for a in again.model.state().values())


def test_one_test_image_has_no_error(images, tmp_path, capsys):
    assert train(images, tmp_path / "run", "--epochs", 1) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--samples", "2", "--count", "1"]) == 0
    printed = capsys.readouterr().out
    assert "nan" not in printed
    assert "+-" not in printed
    assert main(["evaluate", str(tmp_path / "run"), "--samples", "2"]) == 0
    assert "+-" in capsys.readouterr().out


def test_another_total_of_epochs_says_what_it_does_to_a_cosine(images, tmp_path, capsys):
    assert train(images, tmp_path / "run", "--epochs", 4, "--lr-schedule", "cosine", "--lr", "0.01") == 0
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "run"), "--epochs", "8"]) == 0
    said = capsys.readouterr().out
    assert "now runs over 8 epochs instead of 4: the learning rate goes on at 0.005, where it stood at 0" in said
    assert main(["resume", str(tmp_path / "run"), "--epochs", "9", "--lr", "0.001"]) == 0
    assert "it stood at 0; --lr scales it" in capsys.readouterr().out
    assert mv.Run.open(tmp_path / "run").trainer.config.lr == 0.001
    assert train(images, tmp_path / "plain", "--epochs", 1) == 0
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "plain"), "--epochs", "2"]) == 0
    assert "schedule" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--capacity", "5"], "--capacity is a setting of the objective capacity, and the objective is elbo; add --objective capacity"),
        (["--objective", "iwae", "--beta", "2"], "--beta is a setting of the objective elbo or tc or capacity or free_bits"),
        (["--samples", "3"], "add --objective iwae"),
        (["--objective", "tc", "--beta", "1"], "there tc is the elbo"),
        (["--objective", "free_bits", "--free-bits", "-1"], "free_bits is -1.0; need a number from 0 up"),
    ],
)
def test_a_flag_of_another_objective_is_refused(images, tmp_path, capsys, flags, message):
    assert train(images, tmp_path / "run", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_fields_of_objectives_are_flags(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for name, kind in mv.objectives.OBJECTIVES.items():
        for field, value in kind().settings().items():
            assert f"--{field.replace('_', '-')}" in printed
            assert f"{name} {value if isinstance(value, str) else format(value, 'g')}" in printed


def test_fit_without_and_with_labels(capsys):
    x, labels = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1), np.uint8), np.arange(50) % 3
    model = mv.models.CVAE((4, 4, 1), mv.Stream(0), condition=3, latent=2, hidden=[4])
    trainer = mv.fit(model, (x, labels), epochs=2, batch_size=10, progress=False)
    assert [line["epoch"] for line in trainer.metrics] == [1, 2]
    assert trainer.why_eager == ""
    with pytest.raises(mv.UsageError, match="nothing is known about the images"):
        mv.fit(model, x, epochs=1, progress=False)
    with pytest.raises(mv.ShapeError, match="with 3 labels; need an array"):
        mv.fit(model, (x, labels[:3]), epochs=1)
    with pytest.raises(mv.UsageError, match="labels run from 0 to 3; the model knows 0 to 2"):
        mv.fit(model, (x, np.arange(50) % 4), epochs=1, progress=False)
    mv.fit(model, (x, labels), epochs=1)
    assert "epoch 1/1" in capsys.readouterr().err
