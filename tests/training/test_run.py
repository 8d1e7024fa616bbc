"""Runs: a stopped and resumed run makes the bytes of one that never stopped; a NaN stops it, is named, and costs nothing."""

import json

import numpy as np
import pytest

import minivae as mv
from minivae import nn
from minivae.data import Dataset
from minivae.errors import CheckpointError, NonFiniteError, UsageError
from minivae.runs import Run, load
from minivae.training import Trainer, TrainingConfig, losses


def blobs(n: int = 96, shape: tuple[int, int, int] = (9, 8, 1)) -> Dataset:
    """Images of one soft spot at a random place: something that a small VAE can learn."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centres = rng.uniform(1, 7, (n, 2, 1, 1))
    spots = np.exp(-((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2) / 4)
    images = np.repeat((255 * spots)[..., None], shape[2], axis=3).astype(np.uint8)
    return Dataset("blobs", images[:-32], None, images[-32:], None)


MODELS = [
    {"arch": "dense", "hidden": (16,), "latent": 2},
    {"arch": "conv", "channels": (4,), "hidden": (8,), "latent": 3, "likelihood": "gaussian", "head": "log_sigma"},
]


@pytest.mark.parametrize("model", MODELS, ids=["dense", "conv"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_resumed_run_equals_unbroken_run_byte_for_byte(tmp_path, model, optimizer):
    def settings(epochs: int) -> TrainingConfig:
        lr = 1e-4 if optimizer == "sgd" else 1e-2
        return TrainingConfig(epochs=epochs, batch_size=20, lr=lr, optimizer=optimizer, clip=50.0, lr_warmup=0.5)

    data, objective = blobs(), mv.objectives.Elbo(kl_warmup=1.5)
    whole = Run.start(tmp_path / "whole", data, model, settings(4), objective=objective)
    whole.train(data)
    half = Run.start(tmp_path / "half", data, model, settings(2), objective=objective)
    half.train(data)
    resumed = Run.open(tmp_path / "half", epochs=4)
    resumed.train(data)
    assert (tmp_path / "half/model.npz").read_bytes() == (tmp_path / "whole/model.npz").read_bytes()
    for a, b in zip(resumed.metrics, whole.metrics, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_dropout_streams_are_part_of_the_checkpoint():
    """The data order and the noise are functions of the epoch; a layer's own stream has a counter that must come back."""

    class WithDropout(mv.VAE):
        def __init__(self, **options):
            super().__init__(**options)
            self.encoder.layers.insert(1, nn.Dropout(0.5, mv.Stream(7)))

    data, config = blobs(), TrainingConfig(epochs=2, batch_size=32)
    options = {"image_shape": data.image_shape, "rng": mv.Stream(0), "latent": 2, "hidden": (8,)}
    unbroken = Trainer(WithDropout(**options), config)
    unbroken.epoch(data.train_images)
    arrays, metadata = unbroken.state()
    unbroken.epoch(data.train_images)
    resumed = Trainer(WithDropout(**{**options, "rng": mv.Stream(1)}), config)
    resumed.load_state(arrays, json.loads(json.dumps(metadata)))
    resumed.epoch(data.train_images)
    for name, a in unbroken.state()[0].items():
        np.testing.assert_array_equal(resumed.state()[0][name], a, err_msg=name)


def test_the_seed_decides_everything(tmp_path):
    data = blobs()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        Run.start(tmp_path / name, data, MODELS[0], TrainingConfig(epochs=1, seed=seed)).train(data)
    a, b, c = ((tmp_path / name / "model.npz").read_bytes() for name in "abc")
    assert a == b != c


def test_run_learns_and_writes_what_it_promises(tmp_path):
    data = blobs(400)
    run = Run.start(tmp_path / "run", data, {"hidden": (32,), "latent": 2}, TrainingConfig(epochs=15, batch_size=16, lr=5e-3))
    before = losses(run.model, data.test_images)
    run.train(data)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 16))
    for part in ("train", "test"):
        terms = lines[-1][part]
        np.testing.assert_allclose(terms["loss"], terms["reconstruction"] + terms["kl"], rtol=1e-6)
    # a spot's place is worth more than its picture's mean: the best model that ignores z predicts the mean image
    mean = np.clip(data.train_images.mean(0) / 255, 1e-3, 1 - 1e-3)
    x = data.test_images / 255
    without_z = -(x * np.log(mean) + (1 - x) * np.log1p(-mean)).sum() / len(x)
    assert lines[-1]["test"]["loss"] < without_z < before["loss"]
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["model"]["latent"] == 2
    assert config["training"]["epochs"] == 15
    model = load(tmp_path / "run")
    assert losses(model, data.test_images) == lines[-1]["test"]


def test_interrupted_epoch_is_done_again(tmp_path):
    data = blobs()
    Run.start(tmp_path / "whole", data, MODELS[0], TrainingConfig(epochs=3)).train(data)
    run = Run.start(tmp_path / "run", data, MODELS[0], TrainingConfig(epochs=3))

    def interrupt(done: int, loss: float) -> None:
        if run.epochs_done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.train(data, interrupt)
    resumed = Run.open(tmp_path / "run")
    assert resumed.epochs_done == 1
    resumed.train(data)
    assert (tmp_path / "run/model.npz").read_bytes() == (tmp_path / "whole/model.npz").read_bytes()


def test_a_run_is_never_overwritten(tmp_path):
    data = blobs()
    Run.start(tmp_path, data, MODELS[0], TrainingConfig(epochs=1))
    with pytest.raises(UsageError, match="holds a run already"):
        Run.start(tmp_path, data, MODELS[0], TrainingConfig(epochs=1))
    with pytest.raises(CheckpointError, match="holds no run"):
        Run.open(tmp_path / "other")


def test_nan_stops_training_names_its_op_and_keeps_the_checkpoint(tmp_path):
    data = blobs()
    run = Run.start(tmp_path, data, MODELS[0], TrainingConfig(epochs=3, batch_size=16))
    decode, shift, losses = run.model.decode, mv.Tensor(np.ones((1, 2), np.float32)), []
    run.model.decode = lambda z: decode(z + mv.ops.log(shift))
    run.trainer.epoch(data.train_images)
    run.save()
    good, weights = (tmp_path / "model.npz").read_bytes(), run.model.state()

    def poison(done: int, loss: float) -> None:
        losses.append(loss)
        if done == 32:  # before the third step: the log of a negative number
            shift.data[:] = -1

    with np.errstate(invalid="ignore"), pytest.raises(NonFiniteError, match=r"epoch 2, step 3 of 4: the op log made 2 of 2") as caught:
        run.train(data, poison)
    assert "are finite" in str(caught.value)
    assert len(losses) == 2  # stopped within the step
    assert all(np.isfinite(a).all() for a in run.model.state().values())
    assert any((weights[name] != a).any() for name, a in run.model.state().items())  # two good steps were taken
    assert (tmp_path / "model.npz").read_bytes() == good


def test_nan_in_a_gradient_names_the_vjp():
    data = blobs()
    trainer = Trainer(mv.VAE(data.image_shape, mv.Stream(0), **MODELS[0]), TrainingConfig())
    encode = trainer.model.encode

    def encode_badly(x):
        q = encode(x)
        zero = q.mean * 0.0
        q.mean = q.mean + mv.ops.sqrt(zero)  # the value is 0, the slope 0 * infinity
        return q

    trainer.model.encode = encode_badly
    before = trainer.model.state()
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="the vjp of the op sqrt made"):
        trainer.epoch(data.train_images)
    for name, a in trainer.model.state().items():
        np.testing.assert_array_equal(a, before[name])


def test_a_parameter_that_is_not_finite_is_named():
    data = blobs()
    trainer = Trainer(mv.VAE(data.image_shape, mv.Stream(0), **MODELS[0]), TrainingConfig())
    trainer.model.encoder.layers[1].w.data[0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"the parameter encoder.layers.1.w holds 1 numbers"):
        trainer.epoch(data.train_images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "epochs is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"optimizer": "adan"}, "'adan' is unknown; choose one of sgd, adam, adamw"),
        ({"lr_schedule": "step"}, "'step' is unknown"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        TrainingConfig(**change)
