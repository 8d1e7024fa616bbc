"""What every objective has: settings with limits, a summary, functions in the place of a class, weights that warm up."""

from dataclasses import dataclass, fields

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minivae as mv
from minivae import Stream, Tensor, UsageError
from minivae.data import Batch
from minivae.errors import MinivaeError
from minivae.objectives import Elbo, Iwae, Objective, Progress, Terms, as_objective, elbo, kl_scale, setting, trained
from minivae.objectives.base import FromFunction, weighted

X = np.random.default_rng(0).uniform(size=(6, 4, 3, 1)).astype(np.float32)
VAE = mv.VAE((4, 3, 1), Stream(1), latent=3, hidden=(5,))
CVAE = mv.models.CVAE((4, 3, 1), Stream(1), condition=2, latent=3, hidden=(5,))
LABELS = np.array([0, 1, 1, 0, 1, 0])


@dataclass(frozen=True)
class Weighted(Objective):
    weight: float = setting(2.0, "of the loss", 0.5, "WEIGHT")
    kind: str = setting("plain", "how", choices=("plain", "fancy"))
    limit: float | None = setting(None, "none, or a number", 1)

    def losses(self, players, batch, rng, progress):
        x = Tensor(batch.x).reshape(len(batch.x), -1)
        return {"model": x.mean() * self.weight * progress.size}, {"reconstruction": x.sum(axis=1), "kl": x.max(axis=1)}


def test_a_setting_is_a_field_with_its_help_and_limits():
    weight, kind, _ = fields(Weighted)
    assert (weight.default, kind.default) == (2.0, "plain")
    assert dict(weight.metadata) == {"help": "of the loss", "low": 0.5, "metavar": "WEIGHT", "choices": None}
    assert dict(kind.metadata) == {"help": "how", "low": None, "metavar": None, "choices": ("plain", "fancy")}
    made = setting(3, "h", 1, "N", ("a",))
    assert (made.default, dict(made.metadata)) == (3, {"help": "h", "low": 1, "metavar": "N", "choices": ("a",)})


@pytest.mark.parametrize("weight", [0.4, -1.0, np.inf, np.nan])
def test_numbers_below_the_limit_and_infinite_ones_are_refused(weight):
    with pytest.raises(UsageError, match=f"weight is {weight}; need a number from 0.5 up"):
        Weighted(weight=weight)
    assert Weighted(weight=0.5, limit=1).settings() == {"weight": 0.5, "kind": "plain", "limit": 1}


def test_words_that_are_no_choice_are_refused():
    with pytest.raises(UsageError, match="kind 'odd' is unknown; choose one of plain, fancy"):
        Weighted(kind="odd")
    assert Weighted(kind="fancy").kind == "fancy"


def test_settings_are_the_fields():
    assert Elbo(beta=2.0).settings() == {"beta": 2.0, "kl_warmup": 0.0}
    assert Iwae(7).settings()["samples"] == 7


def test_what_an_objective_says_of_itself_by_default():
    plain = Objective()
    assert plain.summary({"loss": 9.0, "kl": 2.346, "reconstruction": 1.0}) == "kl 2.35  reconstruction 1.00"
    assert plain.players(VAE, Stream(0)) == {"model": VAE}
    assert (plain.optimizers(), list(plain.turns()), plain.evaluation_batch(3), plain.settings()) == ({}, [], 500, {})
    with pytest.raises(NotImplementedError, match="Objective defines no losses"):
        plain.losses({}, Batch(X), Stream(0), trained(1))


def test_labels_are_shown_to_a_conditional_model():
    Objective().check(CVAE, LABELS, 3)
    Objective().check(VAE, LABELS, 3)  # who asks for none has none
    Objective().check(CVAE, None, 3)
    with pytest.raises(MinivaeError):
        Objective().check(CVAE, np.array([0, 7]), 3)


@pytest.mark.parametrize(("size", "factor"), [(None, 6), (50, 50)])
def test_a_call_is_the_end_of_training(size, factor):
    terms = Weighted()(VAE, X, Stream(0), size=size)
    assert type(terms) is Terms
    assert terms.loss.item() == pytest.approx(2 * factor * X.mean(), rel=1e-6)
    assert_array_equal(terms.kl.data, X.max(axis=(1, 2, 3)))
    np.testing.assert_allclose(terms.reconstruction.data, X.sum(axis=(1, 2, 3)), rtol=1e-6)
    now = trained(12, ["model", "critic"])
    assert (now.epochs, now.turn, now.size) == (np.inf, ("model", "critic"), 12)
    assert trained(12).turn == ()


def test_a_function_is_an_objective():
    progress = Progress(np.array(0, np.float32), ("model",), 6)
    found, reports = as_objective(elbo).losses({"model": VAE}, Batch(X), Stream(2), progress)
    expected = elbo(VAE, X, Stream(2))
    assert found["model"].item() == expected.loss.item()
    assert_array_equal(reports["kl"].data, expected.kl.data)
    assert_array_equal(reports["reconstruction"].data, expected.reconstruction.data)
    found, reports = as_objective(lambda model, x, rng: Tensor(x).mean()).losses({"model": VAE}, Batch(X), Stream(2), progress)
    assert (found["model"].item(), reports) == (pytest.approx(X.mean()), {})


def test_a_function_is_given_the_model_of_its_labels():
    progress, seen = Progress(np.array(0, np.float32), ("model",), 6), []

    def look(model, x, rng):
        seen.append(model)
        return Tensor(x).mean()

    objective = as_objective(look)
    objective.losses({"model": CVAE}, Batch(X, LABELS), Stream(2), progress)
    objective.losses({"model": CVAE}, Batch(X), Stream(2), progress)
    objective.losses({"model": VAE}, Batch(X, LABELS), Stream(2), progress)
    expected = CVAE.condition(LABELS).encode(X).mean.data
    assert_array_equal(seen[0].encode(X).mean.data, expected)
    assert seen[1:] == [CVAE, VAE]


def test_what_becomes_an_objective():
    own = Elbo()
    assert as_objective(own) is own
    assert type(as_objective(elbo)) is FromFunction
    assert as_objective(elbo).function is elbo
    with pytest.raises(UsageError, match="the class Elbo; pass an instance"):
        as_objective(Elbo)
    with pytest.raises(UsageError, match="cannot be kept in a run"):
        as_objective(elbo).settings()


def test_a_weight_rises_with_the_epochs():
    def scale(epochs, warmup):
        return float(getattr(kl_scale(Progress(np.array(epochs, np.float32), (), 1), warmup), "data", 1.0))

    assert [scale(epochs, 4.0) for epochs in (0, 1, 3, 4, 5, np.inf)] == [0, 0.25, 0.75, 1, 1, 1]
    assert kl_scale(Progress(np.array(0, np.float32), (), 1), 0.0) == 1.0


def test_a_weight_of_one_is_no_op():
    term = Tensor(np.ones(3, np.float32))
    assert weighted(1.0, term) is term
    assert_array_equal(weighted(2.0, term).data, [2, 2, 2])
    assert_array_equal(weighted(Tensor(np.array(1.0, np.float32)), term).data, [1, 1, 1])
