"""A step is replayed only where that is sure to be the step, or somebody has promised it; and a broken promise is found."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import minivae as mv
from minivae import UsageError, nn, ops
from minivae.objectives import Capacity, Elbo, Factor, FreeBits, Iwae, TotalCorrelation
from minivae.training import Trainer, TrainingConfig

IMAGES = np.random.default_rng(0).integers(0, 256, (44, 4, 4, 1), np.uint8)
LABELS = np.arange(44) % 3
OUTSIDE = {"weight": 0.0}


def vae(seed=0):
    return mv.VAE((4, 4, 1), mv.Stream(seed), latent=2, hidden=[5])


def trainer(objective=None, model=None, **config):
    return Trainer(model or vae(), TrainingConfig(epochs=6, batch_size=8, **config), objective)


@dataclass(frozen=True)
class Reads(Elbo):
    """An ELBO with a weight that it reads from outside."""

    def losses(self, players, batch, rng, progress):
        losses, reports = super().losses(players, batch, rng, progress)
        return {"model": losses["model"] + reports["kl"].mean() * OUTSIDE["weight"]}, reports


@dataclass(frozen=True)
class Promises(Reads):
    replayable: ClassVar[bool] = True


@dataclass(frozen=True)
class Flips(Elbo):
    """A branch that turns in the third epoch."""

    replayable: ClassVar[bool] = True

    def losses(self, players, batch, rng, progress):
        losses, reports = super().losses(players, batch, rng, progress)
        return ({"model": losses["model"] * 3.0} if progress.epochs >= 2 else losses), reports


@pytest.fixture(autouse=True)
def reset():
    OUTSIDE["weight"] = 0.0


def function(model, x, rng):
    terms = mv.elbo(model, x, rng)
    return terms._replace(loss=terms.loss + terms.kl.mean() * OUTSIDE["weight"])


@pytest.mark.parametrize("objective", [Reads(), function], ids=["a class", "a function"])
def test_what_an_objective_reads_from_outside_is_read_at_every_step(objective):
    t = trainer(objective)
    t.epoch(IMAGES)
    assert t.replay.programs == {}
    assert "does not say" in t.why_eager or "what a function reads cannot be seen" in t.why_eager
    OUTSIDE["weight"] = 1000.0
    second = t.epoch(IMAGES)
    assert second["loss"] == pytest.approx(second["reconstruction"] + 1001 * second["kl"], rel=1e-5)


def test_a_promise_that_does_not_hold_is_found_in_the_next_epoch():
    t = trainer(Promises())
    t.epoch(IMAGES)
    assert t.why_eager == ""
    OUTSIDE["weight"] = 1000.0
    with pytest.raises(UsageError, match=r"a replay differs from the step.* steps have been replayed since the last check"):
        t.epoch(IMAGES)
    t = trainer(Flips())
    t.epoch(IMAGES)
    t.epoch(IMAGES)
    with pytest.raises(UsageError, match="a replay differs from the step"):
        t.epoch(IMAGES)


def changed(t, how):
    layer = t.model.encoder.layers[1]
    if how == "a hyperparameter":
        layer.activation = "tanh"
    elif how == "a layer":
        t.model.encoder.layers.insert(2, nn.Activation("tanh"))
    elif how == "a rate":
        next(m for m in t.model.modules() if isinstance(m, nn.Dropout)).rate = 0.9
    elif how == "the backend":
        mv.set_backend("numpy")
    elif how == "the prior":
        type(t.model).prior = property(lambda self: mv.distributions.Gaussian(np.full(2, 3.0, np.float32), np.zeros(2, np.float32)))
    elif how == "a method":
        encode = t.model.encode
        t.model.encode = lambda x: (lambda q: mv.distributions.Gaussian(q.mean * 2.0, q.logvar))(encode(x))
    elif how == "weights by hand":
        layer.w.data[...] *= 2


@pytest.mark.parametrize("how", ["a hyperparameter", "a layer", "a rate", "the backend", "a method", "weights by hand"])
def test_what_changes_between_two_steps_of_an_epoch_is_seen(how):
    """The third step is a replay; then something changes; the fourth is the step that a trainer without replay makes."""
    losses = {}
    before = mv.backend.cpu_backend()
    for replayed in (True, False):
        model = vae()
        model.encoder.layers.insert(2, nn.Dropout(0.25, mv.Stream(5)))
        t = trainer(model=model)
        if not replayed:
            t.replay.refused = "the test asks for it"
            t.replay.look = lambda: None
        x = IMAGES[:8] / np.float32(255)
        losses[replayed] = []
        try:
            for i in range(6):
                if i == 3:
                    assert any(p is not None and p.used for p in t.replay.programs.values()) == replayed
                    changed(t, how)
                losses[replayed].append(t.step(x)["loss"])
        finally:
            mv.set_backend(before)
    assert losses[True] == losses[False]


class Moments(mv.VAE):
    replayable = True

    def __init__(self, *rest, **options):
        super().__init__(*rest, **options)
        self.encoder.layers.insert(2, nn.BatchNorm(5))
        self.encoder.layers.insert(3, nn.Dropout(0.25, mv.Stream(5)))


REPLAYED = {
    "elbo": (vae, Elbo()),
    "warm-up": (vae, Elbo(4.0, kl_warmup=1.5)),
    "capacity": (vae, Capacity(10.0, 3.0, kl_warmup=1.5)),
    "free bits": (vae, FreeBits(kl_warmup=0.5)),
    "iwae": (vae, Iwae(3)),
    "tc": (vae, TotalCorrelation(kl_warmup=1.0)),
    "factor": (vae, Factor(critic=4)),
    "moments": (lambda: Moments((4, 4, 1), mv.Stream(0), latent=2, hidden=[5]), Elbo()),
    "cvae": (lambda: mv.models.CVAE((4, 4, 1), mv.Stream(0), condition=3, prior_kind="learned", latent=2, hidden=[5]), Elbo()),
    "hierarchical": (lambda: mv.models.HierarchicalVAE((4, 4, 1), mv.Stream(0), latent=3, hidden=[5], between=(3,)), Elbo()),
    "autoencoder": (lambda: mv.models.AE((4, 4, 1), mv.Stream(0), latent=2, hidden=[5]), Elbo()),
    "gru": (lambda: mv.VAE((4, 4, 1), mv.Stream(0), latent=2, arch="gru", hidden=[5]), Elbo()),
}


@pytest.mark.parametrize("story", REPLAYED)
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_replayed_and_eager_epochs_make_the_same_bits(story, backend):
    make, objective = REPLAYED[story]
    states = []
    with mv.use_backend(backend):
        for replayed in (True, False):
            t = trainer(objective, make(), clip=20.0)
            if not replayed:
                t.replay.refused = "the test asks for it"
                t.replay.look = lambda: None
            reports = [t.epoch(IMAGES, LABELS) for _ in range(3)]
            states.append((t.state(), reports))
            if replayed:
                assert t.why_eager == ""
                assert sum(p.used for p in t.replay.programs.values()) > 3
    (one, first), (other, second) = states
    assert first == second
    assert one[1] == other[1]
    for name, a in one[0].items():
        np.testing.assert_array_equal(a, other[0][name], err_msg=name)


def test_numbers_that_nobody_asks_for_are_not_computed():
    """Reports that are left out cost a replay nothing."""
    model, x = vae(), IMAGES[:8] / np.float32(255)
    noise = mv.Stream(1)
    lean = mv.captured(lambda x: mv.elbo(model, x, noise).loss, model.parameters())
    full = mv.captured(lambda x: mv.elbo(model, x, noise), model.parameters())
    for _ in range(3):
        lean(x)
        full(x)
    (a,), (b,) = lean.replay.programs.values(), full.replay.programs.values()
    assert len(a.program) == len(b.program) - 1  # -log p(x | z)
    assert ops.negative is not None
