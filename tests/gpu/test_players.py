"""Several players as graphs, one for each turn: as eager steps to the bit, and nearly as on the CPU."""

import numpy as np
import pytest

import minivae as mv
from minivae import ops
from minivae.errors import NonFiniteError
from minivae.kernels.gpu import step
from minivae.models import Classifier, gan
from minivae.objectives import CrossEntropy, Factor, Gan, Objective, SemiSupervised, VaeGan, elbo
from minivae.objectives.vaegan import Part
from minivae.training import Trainer, TrainingConfig, graph

from .host import needs_compiler
from .test_graph import IMAGES, SHAPE, build, cupy, same_state

__all__ = ["cupy"]
pytestmark = needs_compiler
GAN = {"kind": "gan", "latent": 3, "hidden": (5,)}
LABELS = np.arange(len(IMAGES)) % 3
FEW = np.where(np.arange(len(IMAGES)) % 4, LABELS, -1)

STORIES = {  # objective, model, labels, settings, how many turns there are
    "gan": (Gan(penalty="none"), GAN, None, {}, 1),
    "r1, at every other step": (Gan(penalty_every=2), GAN, None, {"lr_schedule": "cosine"}, 2),
    "the critic moves more often": (Gan(loss="wasserstein", penalty="gp", critic_steps=2, penalty_every=1), GAN, None, {"clip": 1.0}, 2),
    "hinge, packed, of bits": (Gan(loss="hinge", penalty="none", pack=2), GAN, None, {"binarize": True}, 1),
    "vaegan": (VaeGan(penalty_every=2), {}, None, {"lr_schedule": "cosine"}, 2),
    "factor": (Factor(critic=6, kl_warmup=1.5), {}, None, {"binarize": True}, 1),
    "m2": (SemiSupervised(), {"kind": "m2", "classes": 3}, FEW, {"clip": 50.0}, 1),
    "m2 without labels": (SemiSupervised(), {"kind": "m2", "classes": 3}, None, {}, 1),
    "classifier": (CrossEntropy(), {}, LABELS, {}, 1),
    "spectral norm": (Gan(critic_norm="spectral", penalty="none"), GAN, None, {}, 1),
}


@pytest.fixture(autouse=True)
def small_critics(monkeypatch):
    monkeypatch.setitem(gan.HIDDEN, "dense", (6, 5))  # of a VAE-GAN: others are the generators' mirrors


def train(story, device="cuda", eager=False, epochs=3, images=IMAGES):
    """(trainer, the measures of each epoch), in batches of 4."""
    objective, options, labels, settings, _ = STORIES[story]
    model = Classifier(SHAPE, mv.Stream(0), 3, 5, "dense").to(device) if story == "classifier" else build(device, **options)
    trainer = Trainer(model, TrainingConfig(batch_size=4, epochs=epochs, **settings), objective)
    if eager:
        trainer.on_gpu = graph.DeviceEpochs(trainer)
        trainer.on_gpu.refused = lambda: "the test asks for it"
    return trainer, [trainer.epoch(images, labels) for _ in range(epochs)]


@pytest.mark.parametrize("story", STORIES)
def test_graphs_and_eager_steps_make_the_same_bits_and_nearly_those_of_the_cpu(cupy, story):
    captured, measures = train(story)
    assert captured.on_gpu.why_eager == ""
    assert len(captured.on_gpu.graphs) == STORIES[story][-1]
    eager, also = train(story, eager=True)
    assert not eager.on_gpu.graphs
    assert same_state(captured, eager)
    assert measures == also
    _, there = train(story, "cpu")
    for a, b in zip(measures, there, strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose([*a.values()], [b[name] for name in a], rtol=1e-3, atol=1e-3)


def test_a_stretch_goes_through_all_turns(cupy, monkeypatch):
    launches, launch = [], graph.Graph.launch
    monkeypatch.setattr(graph.Graph, "launch", lambda self: (launches.append(self), launch(self)))
    trainer, _ = train("r1, at every other step")
    # 8 full batches an epoch, the ninth is smaller and eager: so the turns are 0 1 0 1 0 1 0 1 (0) 1 0 1 0 ...
    with_penalty, without = (trainer.on_gpu.turns[turn].graph for turn in dict.fromkeys(trainer.turns))
    assert launches[:6] == [with_penalty, without, with_penalty, without, with_penalty, without]
    assert launches[6:10] == [without, with_penalty, without, with_penalty]
    assert len(launches) == 6 + 8 + 8


class Dark(Gan):
    """NaN for the critic, and for nobody else, of images of which one is white."""

    replayable = True

    def losses(self, players, batch, rng, progress):
        found, reports = super().losses(players, batch, rng, progress)
        x = batch.x
        dark = 0.75 - (x - x).sum() - x.reshape(len(x), -1).min(axis=1).max()
        return found | {"critic": found["critic"] + ops.log(found["critic"] * 0 + dark) * 0}, reports


def test_a_step_that_is_not_finite_for_one_player_moves_none(cupy):
    at = mv.Stream(0).split("order of epoch 3").permutation(len(IMAGES))[2 * 4 + 1]
    trainers = []
    for eager in (False, True):
        trainer = Trainer(build(**GAN), TrainingConfig(batch_size=4), Dark(penalty_every=2, ema=0.0))
        if eager:
            trainer.on_gpu = graph.DeviceEpochs(trainer)
            trainer.on_gpu.refused = lambda: "the test asks for it"
        images = IMAGES.copy()
        for _ in range(2):
            trainer.epoch(images)
        assert bool(trainer.on_gpu.graphs) != eager
        images[at] = 255
        with pytest.raises(NonFiniteError, match=r"epoch 3, step 3 of 9: the op log made 1 of 1 numbers not finite"):
            trainer.epoch(images)
        trainers.append(trainer)
    assert [optimizer.steps for optimizer in trainers[0].optimizers.values()] == [2 * 9 + 2] * 2
    (arrays, metadata), (others, also) = (trainer.state() for trainer in trainers)
    assert metadata == also
    for name, a in arrays.items():
        if not name.startswith("model/average"):  # like running moments, it has moved with each try
            np.testing.assert_array_equal(a, others[name], err_msg=name)


def test_more_reports_than_the_kernel_takes_are_read_one_by_one(cupy):
    class Talks(Gan):
        replayable = True

        def losses(self, players, batch, rng, progress):
            found, _ = super().losses(players, batch, rng, progress)
            return found, {f"part {i}": found["critic"].data * i for i in range(step.VALUES)} | {"constant": 7.0}

    trainer = Trainer(build(**GAN), TrainingConfig(batch_size=4), Talks(penalty="none"))
    for _ in range(2):
        measures = trainer.epoch(IMAGES)
    assert f"at most {step.VALUES} float32 arrays" in trainer.on_gpu.why_eager
    assert measures["constant"] == 7
    np.testing.assert_allclose([measures[f"part {i}"] for i in range(3)], np.arange(3) * measures["critic_loss"], rtol=1e-5)


class Alternating(Objective):
    """A stranger's objective: two halves of a model that move in turns, one of them more often."""

    replayable = True

    def players(self, model, rng):
        return {"encoder": Part(model, "encoder"), "decoder": Part(model, "decoder")}

    def turns(self):
        return [("encoder",), ("encoder",), ("decoder",)]

    def losses(self, players, batch, rng, progress):
        terms = elbo(players["encoder"].model, batch.x, rng)
        (player,) = progress.turn
        return {player: terms.loss}, {"kl": terms.kl, "images": float(len(batch.x))}


def test_players_in_turns_count_their_own_steps(cupy):
    runs = []
    for device in ("cuda", "cpu"):
        trainer = Trainer(build(device), TrainingConfig(batch_size=4), Alternating())
        runs.append((trainer, [trainer.epoch(IMAGES[:32]) for _ in range(3)]))
    (there, measures), (_, also) = runs
    assert (there.on_gpu.why_eager, len(there.on_gpu.graphs)) == ("", 2)
    assert {name: optimizer.steps for name, optimizer in there.optimizers.items()} == {"encoder": 16, "decoder": 8}
    for a, b in zip(measures, also, strict=True):
        assert a.keys() == b.keys() == {"loss", "kl", "images", "gradient_norm", "decoder_loss", "decoder_gradient_norm"}
        assert a["images"] == 4
        np.testing.assert_allclose([*a.values()], [b[name] for name in a], rtol=1e-4)
