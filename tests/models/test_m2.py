"""M2: its bound by enumeration of the classes and quadrature of the code, its gradients, what a label that is not known does."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, logsumexp

import minivae as mv
from minivae import ShapeError, Stream, UsageError, no_grad
from minivae.data import UNKNOWN, Batch, balanced, partly_labelled
from minivae.gradcheck import frozen, gradcheck
from minivae.models import M2, build, describe
from minivae.objectives import Elbo, SemiSupervised, default_objective, trained
from minivae.quadrature import log_marginal, posterior_kl
from minivae.training import Trainer, TrainingConfig

X = np.random.default_rng(0).integers(0, 2, (4, 3, 2, 1)).astype(np.float64)
Y = np.array([2, UNKNOWN, 0, UNKNOWN])


def model(latent=1, dtype=np.float64, seed=0, **options):
    made = M2((3, 2, 1), Stream(seed), classes=3, latent=latent, **{"hidden": (5,), "activation": "tanh"} | options)
    made.to("cpu", dtype)
    for p in made.parameters():  # so that classes and codes matter
        p.data *= 3
    return made


def losses(made, x, label, seed=0, **settings):
    found, reports = SemiSupervised(**settings).losses({"model": made}, Batch(x, label), Stream(seed), trained(len(x), ("model",)))
    return found["model"].data, {name: getattr(value, "data", value) for name, value in reports.items()}


@pytest.mark.parametrize("latent", [1, 2])
def test_the_bound_lies_below_log_p_by_the_two_divergences(latent):
    """log p(x) + J = KL(q(y | x) || p(y | x)) + sum_y q(y | x) KL(q(z | x, y) || p(z | x, y)), the noise averaged out."""
    made, draws = model(latent), 4000
    with no_grad():
        log_q = log_softmax(made.logits(X).data, axis=1)
    log_joint, divergence = np.empty((4, 3)), np.empty((4, 3))
    for k in range(3):
        known = made.condition(np.array([k]))
        marginal = log_marginal(known, X, 1e-8)
        assert marginal.error.max() < 1e-6
        log_joint[:, k] = marginal.log_p - math.log(3)
        for i in range(4):
            divergence[i, k] = posterior_kl(known, X[i : i + 1], 1e-8)[0][0]
    log_p = logsumexp(log_joint, axis=1)
    gap = (np.exp(log_q) * (log_q - (log_joint - log_p[:, None]) + divergence)).sum(axis=1)
    assert (gap > 0.01).all()
    for i in range(4):
        with no_grad():
            for label, exact in ((None, gap[i] - log_p[i]), (Y[i], None)):
                many = None if label is None else np.full(draws, label)
                reports = losses(made, np.repeat(X[i : i + 1], draws, axis=0), many)[1]
                paid = reports["reconstruction"] + reports["kl"]
                if exact is None:
                    exact = gap[i] - log_p[i] if label == UNKNOWN else divergence[i, label] - log_joint[i, label]
                assert abs(paid.mean() - exact) < 5 * paid.std() / math.sqrt(draws)


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_loss_is_its_definition(beta):
    made = model(2)
    with no_grad():
        reconstruction, divergence = (part.data for part in made.each_class(X, Stream(3)))
        log_q = log_softmax(made.logits(X).data, axis=1)
    apart, q, repeats, alpha = divergence + math.log(3), np.exp(log_q), 4.0, 0.7
    bounds, sums, weights, told = [], [], [], []
    for n, y in enumerate(Y):
        for scale, found in ((1, bounds), (beta, sums)):
            joint = reconstruction[n] + scale * apart[n]
            found.append(joint[y] if y != UNKNOWN else sum(q[n, k] * (joint[k] + scale * log_q[n, k]) for k in range(3)))
        weights.append(1.0 if y == UNKNOWN else 1 / repeats)
        if y != UNKNOWN:
            told.append(-log_q[n, y])
    wanted = np.average(sums, weights=weights) + alpha * np.mean(told)
    found, reports = losses(made, X, Y, 3, alpha=alpha, repeats=repeats, beta=beta)
    assert_allclose(found, wanted, rtol=1e-12)
    assert_allclose(reports["reconstruction"] + reports["kl"], bounds, rtol=1e-12)
    without, unknown = (losses(made, X, label, 3, beta=beta)[0] for label in (None, np.full(4, UNKNOWN)))
    assert_allclose(without, unknown, rtol=1e-12)
    assert losses(made, X, np.full(4, UNKNOWN), 3)[1]["classification"] == 0


def test_each_class_is_the_conditional_model():
    made = model(2)
    with no_grad():
        _, divergence = made.each_class(X, Stream(0))
        for k in range(3):
            known = made.condition(np.full(4, k))
            assert_allclose(divergence.data[:, k], mv.kl(known.encode(X), known.prior).data, rtol=1e-12)
    assert divergence.data.std(axis=1).min() > 1e-3


@pytest.mark.parametrize(("arch", "hidden"), [("dense", (5,)), ("dense", ()), ("conv", (5,)), ("gru", (5,))])
def test_the_encoder_of_all_classes_is_that_of_each(arch, hidden):
    made = M2((8, 8, 1), Stream(0), classes=3, latent=2, arch=arch, hidden=hidden, activation="softplus" if arch == "dense" else "tanh")
    made.to("cpu", np.float64)
    x = np.random.default_rng(0).uniform(size=(4, 8, 8, 1))
    with no_grad():
        every = made.encode_each(x)
        known = made.condition(np.repeat(np.arange(3), 4)).encode(np.tile(x, (3, 1, 1, 1)))
    assert_allclose(every.mean.data, known.mean.data, rtol=1e-12, atol=1e-13)
    assert_allclose(every.logvar.data, known.logvar.data, rtol=1e-12, atol=1e-13)
    with pytest.raises(ShapeError, match=r"need \(N, \*\(8, 8, 1\)\)"):
        made.encode_each(x[:, 1:])


@pytest.mark.parametrize("label", [Y, None])
def test_the_gradient_is_the_slope(label):
    def loss(model, x, rng):
        return SemiSupervised(repeats=2.0).losses({"model": model}, Batch(x, label), rng, trained(4, ("model",)))[0]["model"]

    report = gradcheck(frozen(loss, model(2, np.float32), X.astype(np.float32), Stream(5)), elements=3, directions=2)
    assert report.ok, report


def test_a_replayed_step_is_the_step():
    rng = np.random.default_rng(1)
    images, labels = rng.integers(0, 256, (64, 3, 2, 1), np.uint8), rng.integers(-1, 3, 64)
    found = {}
    for replayed in (True, False):
        t = Trainer(model(2, np.float32), TrainingConfig(epochs=3, batch_size=16), SemiSupervised())
        if not replayed:
            t.replay.refused = "the test asks for it"
            t.replay.look = lambda: None
        found[replayed] = [t.epoch(images, labels) for _ in range(3)]
        assert (t.why_eager == "") == replayed
    assert found[True] == found[False]


def test_a_model_that_is_kept_comes_back(tmp_path):
    made = model(2, np.float32)
    again = build(describe(made), Stream(9))
    again.load_state(made.state())
    x = X.astype(np.float32)
    assert_array_equal(again.logits(x).data, made.logits(x).data)
    mv.save(made, tmp_path / "m2.npz")
    kept = mv.load(tmp_path / "m2.npz")
    assert type(kept) is M2
    assert_array_equal(kept.condition(np.array([1])).encode(x).mean.data, made.condition(np.array([1])).encode(x).mean.data)
    assert isinstance(default_objective(made), SemiSupervised)
    assert mv.inference.classify(made, x).shape == (4,)


def test_labels_that_are_not_known_are_no_class_to_other_objectives():
    images = np.zeros((4, 3, 2, 1), np.uint8)
    with pytest.raises(UsageError, match="labels run from -1"):
        Trainer(model(), TrainingConfig(epochs=1), Elbo()).epoch(images, Y)
    assert np.isnan(losses(model(), X, np.array([0, 1, 3, -1]))[0])  # what nobody looked at makes no number


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SemiSupervised().check(model(), np.array([0, 3]), 2), "0 to 2, -1: not known"),
        (lambda: SemiSupervised().check(model(), np.array([-2, 1]), 2), "from -2 to 1"),
        (lambda: SemiSupervised().check(model(), np.array([0] + 99 * [-1]), 10), "1 of 100 images have a label, and 90% of batches of 10"),
        (lambda: M2((3, 2, 1), Stream(0), classes=1), "need 2 or more"),
        (lambda: M2((3, 2, 1), Stream(0), prior_kind="learned"), "knows no class"),
        (lambda: balanced(np.arange(10) % 2, 3, Stream(0)), "3 labels of 2 classes"),
        (lambda: balanced(np.array([0, 0, 1]), 4, Stream(0)), "2 examples of class 1 are wanted, and there are 1"),
        (lambda: partly_labelled(X, Y, np.array([1, 1])), "different integers"),
        (lambda: replace(SemiSupervised(), repeats=0.5), "repeats is 0.5"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, message):
    with pytest.raises((UsageError, mv.MinivaeError), match=message):
        call()


def test_a_balanced_draw():
    labels = np.random.default_rng(0).integers(0, 5, 500)
    first, second = (balanced(labels, 50, Stream(seed)) for seed in (0, 1))
    for at in (first, second):
        assert_array_equal(np.bincount(labels[at]), np.full(5, 10))
        assert len(np.unique(at)) == 50
    assert set(first) != set(second)


def test_partly_labelled():
    images, labels = np.arange(12, dtype=np.uint8).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])
    x, y = partly_labelled(images, labels, np.array([1, 5]), 3)
    assert_array_equal(y[:6], [-1, 1, -1, -1, -1, 2])
    assert len(x) == 10
    for row, label in zip(x, y, strict=True):
        assert label == (labels[row[0] // 2] if row[0] // 2 in (1, 5) else UNKNOWN)
    assert (y != UNKNOWN).sum() == 6


def test_repeats_leave_the_bound_as_it_is():
    """The mean over the data with repeats is that over the data: w takes them out."""
    images, labels = X, np.array([2, 0, 0, 1])
    x, y = partly_labelled(images, labels, np.array([0, 3]), 5)
    made = model(1)
    exact = {}
    for name, (data, told, repeats) in {"once": (images, np.array([2, -1, -1, 1]), 1.0), "often": (x, y, 5.0)}.items():
        with no_grad():
            found = [losses(made, data, told, seed, alpha=0.0, repeats=repeats)[0] for seed in range(600)]
        exact[name] = np.mean(found), np.std(found) / math.sqrt(600)
    assert abs(exact["once"][0] - exact["often"][0]) < 5 * math.hypot(exact["once"][1], exact["often"][1])
