"""Runs of every model and objective: the same bytes after a stop, the right labels, fresh bits, an alarm when latents fall silent."""

import json

import numpy as np
import pytest

import minivae as mv
from minivae.cli import main
from minivae.data import Batch, Dataset
from minivae.errors import UsageError
from minivae.objectives import OBJECTIVES, Capacity, Elbo, Factor, FreeBits, Iwae, Progress, TotalCorrelation
from minivae.runs import Run, load, saved
from minivae.runs.collapse import alarm
from minivae.training import Trainer, TrainingConfig, losses


def tiles(n: int = 96) -> Dataset:
    """Image n is gray, and its label says how gray: 60 times the label, with a corner that differs."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, n)
    images = np.broadcast_to(60 * labels[:, None, None, None], (n, 6, 5, 1)).astype(np.uint8)
    images[:, :3, :3] = rng.integers(0, 256, (n, 1, 1, 1))
    return Dataset("tiles", images[:-32], labels[:-32], images[-32:], labels[-32:])


SMALL = {"hidden": (8,), "latent": 3}
STORIES = {
    "ae": ({"model": "ae", **SMALL}, Elbo(), {}),
    "cvae": ({"model": "cvae", "prior_kind": "learned", **SMALL}, Elbo(), {}),
    "hierarchical": ({"model": "hierarchical", "between": (4,), **SMALL}, Elbo(), {}),
    "recurrent": ({"arch": "gru", **SMALL}, Elbo(), {}),
    "iwae": (SMALL, Iwae(4), {"binarize": True}),
    "capacity": (SMALL, Capacity(beta=10.0, capacity=3.0, kl_warmup=1.5), {}),
    "free bits": (SMALL, FreeBits(free_bits=0.1), {}),
    "tc": ({"model": "cvae", **SMALL}, TotalCorrelation(beta=6.0, kl_warmup=1.5), {}),
    "factor": (SMALL, Factor(gamma=5.0, critic=9), {"binarize": True, "clip": 90.0, "lr_warmup": 0.5}),
}


@pytest.mark.parametrize("story", STORIES)
def test_resumed_run_equals_unbroken_run_byte_for_byte(tmp_path, story):
    model, objective, options = STORIES[story]
    data = tiles()
    whole = Run.start(tmp_path / "whole", data, model, TrainingConfig(epochs=3, batch_size=20, **options), objective=objective)
    whole.train(data)
    assert whole.trainer.why_eager == ""
    assert all(program is not None for program in whole.trainer.replay.programs.values())
    half = TrainingConfig(epochs=1, batch_size=20, **options)
    Run.start(tmp_path / "half", data, model, half, objective=objective).train(data)
    resumed = Run.open(tmp_path / "half", epochs=3)
    assert type(resumed.model) is type(whole.model)
    resumed.train(data)
    assert (tmp_path / "half/model.npz").read_bytes() == (tmp_path / "whole/model.npz").read_bytes()
    assert [{**line, "seconds": 0} for line in resumed.metrics] == [{**line, "seconds": 0} for line in whole.metrics]
    assert whole.metrics[-1]["train"]["reconstruction"] < whole.metrics[0]["train"]["reconstruction"]
    assert type(load(tmp_path / "whole")) is type(whole.model)


def test_the_labels_go_with_their_images():
    data, seen = tiles(), []
    model = mv.models.build({"model": "cvae", "image_shape": (6, 5, 1), "condition": 4, **SMALL}, mv.Stream(0))

    def watch(model, x, rng):
        seen.append((x[:, -1, -1, 0] * 255 / 60, model.c.data.argmax(axis=1)))
        return mv.elbo(model, x, rng)

    trainer = Trainer(model, TrainingConfig(epochs=2, batch_size=10), watch)
    for _ in range(2):
        trainer.epoch(data.train_images, data.train_labels)
    losses(trainer.model, data.test_images, labels=data.test_labels, objective=watch, batch_size=10)
    assert len(seen) == 7 + 7 + 4
    for gray, label in seen:
        np.testing.assert_allclose(gray, label, atol=1e-5)
    assert (seen[0][1] != seen[7][1]).any()  # another order in the second epoch


def test_bits_are_drawn_anew_each_epoch_and_are_as_probable_as_the_pixels_say():
    data, seen = tiles(), []
    data.train_images[...] = 51  # a fifth of white
    trainer = Trainer(mv.VAE((6, 5, 1), mv.Stream(0), **SMALL), TrainingConfig(batch_size=64, binarize=True))
    update = trainer.update
    trainer.update = lambda batch, *rest: (seen.append(batch.x), update(batch, *rest))[1]
    for _ in range(2):
        trainer.epoch(data.train_images)
    bits = np.concatenate(seen)
    assert set(np.unique(bits)) == {0.0, 1.0}
    assert abs(bits.mean() - 0.2) < 5 * np.sqrt(0.16 / bits.size)
    assert (seen[0] != seen[1]).any()


def test_the_alarm_goes_off_once_when_the_latents_fall_silent(tmp_path):
    data = tiles()
    run = Run.start(tmp_path / "silent", data, SMALL, TrainingConfig(epochs=6, batch_size=8, lr=1e-2), objective=Elbo(300.0))
    run.train(data)
    lines = [json.loads(line) for line in (tmp_path / "silent/metrics.jsonl").read_text().splitlines()]
    warned = [line["epoch"] for line in lines if "warning" in line]
    assert len(warned) == 1
    assert "below 0.01 nats for 3 epochs" in lines[warned[0] - 1]["warning"]
    for line in lines[warned[0] - 3 : warned[0]]:
        assert max(line["latent_kl"]) < 0.01
        assert line["active_units"] == 0
    for story in ("ae", "free bits"):
        model, objective, options = STORIES[story]
        well = Run.start(tmp_path / story, data, model, TrainingConfig(epochs=4, batch_size=8, lr=1e-2, **options), objective=objective)
        well.train(data)
        assert not any("warning" in line for line in well.metrics)
        assert well.metrics[-1]["active_units"] > 0


def test_the_alarm_asks_for_three_epochs_in_a_row():
    silent, loud = {"latent_kl": [0.001, -0.002]}, {"latent_kl": [0.001, 0.3]}
    rings = [alarm([{"s": silent, "l": loud}[c] for c in story[: i + 1]]) is not None for story in ("sslssssl",) for i in range(8)]
    assert rings == [False, False, False, False, False, True, False, False]


def test_activity_is_what_its_parts_say():
    """A code of which two latents are dead and one says which of four tiles it is."""
    mean = np.zeros((400, 3), np.float32)
    mean[:, 1] = np.arange(400) % 4
    model = mv.VAE((1, 1, 1), mv.Stream(0), latent=3, hidden=())
    model.encode = lambda x: mv.distributions.Gaussian(mv.stop_gradient(mean), mv.stop_gradient(np.zeros_like(mean)))
    found = mv.models.activity(model, mean, mv.Stream(0))
    assert found.active.tolist() == [False, True, False]
    np.testing.assert_allclose(found.kl, [0, 14 / 8, 0], atol=1e-6)  # half the mean of 0, 1, 4 and 9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Elbo(beta=float("inf")), "beta is inf"),
        (lambda: TotalCorrelation(beta=1.0), "there tc is the elbo"),
        (lambda: Factor(critic=0), "critic is 0"),
        (lambda: Iwae(0), "samples is 0"),
        (lambda: Capacity(capacity=-1.0), "capacity is -1.0"),
        (lambda: Trainer(vae(), objective=Elbo), r"pass an instance, Elbo\(\)"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_made_again_from_its_settings(name):
    made = OBJECTIVES[name]()
    again = saved.build_objective(json.loads(json.dumps(saved.describe_objective(made))))
    assert again == made
    assert type(again) is type(made)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    data, path = tiles(120), tmp_path_factory.mktemp("data") / "tiles.npz"
    images = np.concatenate([data.train_images, data.test_images])
    np.savez(path, images=images, labels=np.concatenate([data.train_labels, data.test_labels]))
    np.savez(path.with_name("bare.npz"), images=images)
    return path


def command(*words) -> int:
    return main([str(word) for word in words])


@pytest.mark.parametrize(
    "options",
    [
        ["cvae", "--prior", "learned"],
        ["ae"],
        ["hierarchical", "--top", 1],
        ["cvae", "--objective", "tc", "--beta", 6],
        ["vae", "--objective", "factor", "--gamma", 10, "--critic", 12],
    ],
    ids=["cvae", "ae", "hierarchical", "tc", "factor"],
)
def test_the_command_line_trains_resumes_and_draws(labelled, tmp_path, capsys, options):
    asked = ["train", labelled, "--model", *options, "--hidden", 8, "--latent", 3, "--batch-size", 25]
    assert command(*asked, "--epochs", 2, "--out", tmp_path / "whole") == 0
    assert command(*asked, "--epochs", 1, "--out", tmp_path / "half") == 0
    assert command("resume", tmp_path / "half", "--epochs", 2) == 0
    assert (tmp_path / "half/model.npz").read_bytes() == (tmp_path / "whole/model.npz").read_bytes()
    for work in (["sample"], ["reconstruct"], ["interpolate", "--count", 2], ["evaluate", "--samples", 5], ["gradcheck"]):
        assert command(work[0], tmp_path / "half", *work[1:]) == 0
    printed = capsys.readouterr().out
    assert ("log p(x)" in printed) == (options[0] != "ae")
    assert ("for the total correlation" in printed) == ("--objective" in options)


@pytest.mark.parametrize(
    ("model", "objective", "words"),
    [("ae", "tc", "here it is Delta"), ("hierarchical", "factor", "here it is Autoregressive"), ("cvae", "factor", "or take tc")],
)
def test_a_model_without_one_q_of_z_has_no_total_correlation_to_weigh(labelled, tmp_path, capsys, model, objective, words):
    asked = ["--model", model, "--objective", objective, "--out", tmp_path / "run"]
    assert command("train", labelled, *asked) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_label_chooses_what_is_drawn(labelled, tmp_path, capsys):
    """Tiles of four grays, by label: the drawn ones are as gray as asked for."""
    from minivae.cli.look import prior_samples

    asked = ["--model", "cvae", "--hidden", 32, "--latent", 3, "--batch-size", 6, "--lr", 0.01, "--epochs", 10]
    assert command("train", labelled, *asked, "--out", tmp_path / "run") == 0
    run = Run.open(tmp_path / "run")
    gray = [prior_samples(run, 8, 0, label)[0][:, 4:].mean() * 255 / 60 for label in range(4)]
    np.testing.assert_allclose(gray, range(4), atol=0.3)
    in_turn = prior_samples(run, 8, 0)[0]
    assert (np.rint(in_turn[:, 4:].mean(axis=(1, 2, 3)) * 255 / 60) == np.arange(8) % 4).all()
    for label in (2, 3, 2):
        assert command("sample", run.folder, "--label", label, "--out", tmp_path / f"{label}.png") == 0
    assert (tmp_path / "2.png").read_bytes() != (tmp_path / "3.png").read_bytes()
    capsys.readouterr()
    assert command("sample", run.folder, "--label", 4) == 2
    assert "--label is 4; the model knows 0 to 3" in capsys.readouterr().err
    assert command("train", labelled, "--epochs", 1, "--hidden", 4, "--out", tmp_path / "vae") == 0
    assert command("sample", tmp_path / "vae", "--label", 1) == 2
    assert "train one with --model cvae" in capsys.readouterr().err
    assert command("train", labelled.with_name("bare.npz"), "--model", "cvae", "--out", tmp_path / "bare") == 2
    assert "has no labels for a cvae's condition" in capsys.readouterr().err


def test_a_capacity_rises_with_the_warm_up_and_its_weight_does_not():
    model, x = mv.VAE((6, 5, 1), mv.Stream(0), **SMALL), np.full((4, 6, 5, 1), 0.25, np.float32)
    objective, now = Capacity(capacity=4.0, beta=7.0, kl_warmup=2.0), Progress(np.float32(0.5), ("model",), 4)
    losses, reports = objective.losses({"model": model}, Batch(x), mv.Stream(1), now)
    expected = reports["reconstruction"].data.mean() + 7 * abs(reports["kl"].data.mean() - 1)
    assert losses["model"].item() == pytest.approx(expected, rel=1e-6)


def vae() -> mv.VAE:
    return mv.VAE((6, 5, 1), mv.Stream(0), **SMALL)


def test_the_loss_of_tc_knows_how_many_images_there_are():
    """Data of another size: a recorded step, which holds the old number, is not replayed."""
    images, config, objective = tiles(144).train_images, TrainingConfig(batch_size=8), TotalCorrelation(beta=3.0)
    one = Trainer(vae(), config, objective)
    one.epoch(images[:40])
    other = Trainer(vae(), config, objective)
    other.load_state(*one.state())
    found = [trainer.epoch(images) for trainer in (one, other)]
    assert found[0] == found[1]


def test_a_critic_whose_word_has_no_weight_leaves_the_elbo_and_learns_all_the_same():
    """One step; the noise of the second depends on what the critic drew."""
    images = tiles().train_images
    config = TrainingConfig(batch_size=len(images))
    pair, alone = Trainer(vae(), config, Factor(gamma=0.0, critic=7)), Trainer(vae(), config)
    judge = pair.players["critic"]
    before = judge.state()
    assert pair.epoch(images)["loss"] == pytest.approx(alone.epoch(images)["loss"], rel=1e-6)
    for name, a in alone.model.state().items():
        # Adam's first step is lr g / (|g| + eps), whatever the size of g: one that is rounding error has no direction
        np.testing.assert_allclose(pair.model.state()[name], a, atol=2e-6, err_msg=name)
    assert all((before[name] != a).any() for name, a in judge.state().items())


def test_the_critic_learns_and_the_model_is_told():
    """A model that says one thing by two latents: the critic of its codes finds out, and the loss grows by what it finds."""

    class Twice(mv.VAE):
        def encode(self, x):
            mean = mv.ops.broadcast_to(mv.stop_gradient(x[:, 5, 4] * 8 - 4), (len(x), 3))
            return mv.distributions.Gaussian(mean, mean * 0.0 - 4.0)

    images, model = tiles(528).train_images, Twice((6, 5, 1), mv.Stream(0), **SMALL)
    trainer = Trainer(model, TrainingConfig(epochs=25, batch_size=31, lr=3e-3), Factor(gamma=2.0, critic=16))
    reports = [trainer.epoch(images) for _ in range(25)]
    claimed = [(r["loss"] - r["reconstruction"] - r["kl"]) / 2 for r in reports]
    # four equally probable grays, told by three latents: 2 log 4 nats, of which the noise, sigma = 0.14 to steps of 1.9, hides none
    assert abs(claimed[0]) < 1
    assert claimed[-1] == pytest.approx(2 * np.log(4), rel=0.3)
