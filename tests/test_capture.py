"""A captured step is the step, to the bit, or it is not captured."""

import numpy as np
import pytest

import minivae as mv
from minivae import nn, ops
from minivae.kernels.cpu import watch
from minivae.kernels.cpu.watch import recorded
from minivae.objectives import elbo, iwae
from minivae.replay import captured

MODELS = {
    "dense": {"image_shape": (9, 8, 1), "hidden": (16, 12), "latent": 3},
    "tanh": {"image_shape": (9, 8, 1), "hidden": (16,), "latent": 2, "activation": "tanh", "head": "log_sigma"},
    "silu": {"image_shape": (8, 8, 3), "hidden": (16,), "latent": 2, "activation": "silu", "likelihood": "gaussian"},
    "conv": {"image_shape": (12, 10, 1), "arch": "conv", "channels": (4, 5), "hidden": (8,), "latent": 2},
    "laplace": {"image_shape": (8, 8, 1), "hidden": (16,), "latent": 2, "likelihood": "laplace"},
    "continuous": {"image_shape": (8, 8, 1), "hidden": (16,), "latent": 2, "likelihood": "continuous_bernoulli"},
}


def batches(shape, sizes=(7, 7, 7, 3, 7, 3, 3, 7, 0, 7)):
    rng = np.random.default_rng(0)
    return [rng.random((n, *shape)).astype(np.float32) for n in sizes if n]


def train(name, objective, how, backend="numba"):
    """The parameters and the losses after some steps on batches of two sizes."""
    with mv.use_backend(backend):
        model = mv.VAE(rng=mv.Stream(0), **MODELS[name])
        noise, params = mv.Stream(1), model.parameters()
        optimizer = mv.Adam(params, lr=0.01)
        step = captured(lambda x: objective(model, x, noise), params)
        losses = []
        for x in batches(model.image_shape):
            results, gradients = (step if how == "captured" else step.eager)(x)
            losses.append((results[0] if isinstance(results, tuple) else results).data.copy())
            optimizer.step(gradients)
        return [p.data.copy() for p in params], losses, step


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("objective", [elbo, lambda *a: iwae(*a, samples=4)], ids=["elbo", "iwae"])
def test_replays_are_the_steps_to_the_bit(name, objective, backend):
    eager, losses, _ = train(name, objective, "eager", backend)
    replayed, again, step = train(name, objective, "captured", backend)
    assert step.why_eager == ""
    assert sum(r.verified for r in step.replay.programs.values()) == 2  # both batch sizes
    for a, b in zip(eager + losses, replayed + again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_replay_makes_no_tensor_and_few_calls():
    model = mv.VAE(rng=mv.Stream(0), **MODELS["dense"])
    noise = mv.Stream(1)
    step = captured(lambda x: elbo(model, x, noise), model.parameters())
    x = batches(model.image_shape)[0]
    for _ in range(3):
        step(x)
    before = mv.Tensor(0.0).number
    step(x)
    assert mv.Tensor(0.0).number == before + 1  # Tensors are numbered as they are made
    (recording,) = step.replay.programs.values()
    assert len(recording.program) < 40


def test_densities_and_log_sum_exp_are_replayed_as_kernels():
    """Not by the functions around them, which take ten times as long as the work on a batch of twenty."""
    _, _, step = train("tanh", lambda *a: iwae(*a, samples=4), "captured")
    for recording in step.replay.programs.values():
        by_hand = {arguments[0].__name__ for call, arguments in recording.program if call.__name__ == "_again"}
        assert not [name for name in by_hand if "log" in name]


def test_arithmetic_is_replayed_by_ufuncs_and_only_where_somebody_reads_it():
    w = mv.Tensor(np.arange(3.0, dtype=np.float32))

    def loss(x):
        ops.add(w, x)  # for nobody
        return (ops.subtract(ops.multiply(w, x), x) + ops.negative(w)).sum()

    step = captured(loss, [w])
    x = np.array([1.0, -2.0, 0.5], np.float32)
    for _ in range(3):
        value, (gradient,) = step(x)
        assert value.item() == np.sum(w.data * x - x - w.data)
        np.testing.assert_array_equal(gradient, x - 1)
    assert step.why_eager == ""
    (recording,) = step.replay.programs.values()
    calls = [call for call, _ in recording.program if isinstance(call, np.ufunc)]
    assert [calls.count(f) for f in (np.multiply, np.subtract, np.negative)] == [1, 1, 2]  # one of the two is a gradient
    assert calls.count(np.add) == 2  # one more in the sum of gradients; none for what nobody reads


def unrecorded_number(calls=[]):  # noqa: B006 (a number that changes from call to call is the point)
    calls.append(None)
    return float(len(calls))


UNSURE = {
    "a number that changes": lambda x, w: (ops.multiply(w, unrecorded_number()) * x).sum(),
    "arithmetic on raw arrays": lambda x, w: (w * (x + 1.0)).sum(),
    "a branch on the data": lambda x, w: (w * x).sum() if x[0] > 0 else (w * w).sum(),
}


@pytest.mark.parametrize("why", UNSURE)
def test_what_cannot_be_recorded_stays_eager_and_says_so(why):
    w = mv.Tensor(np.arange(1.0, 4.0))
    step = captured(lambda x: UNSURE[why](x, w), [w])
    rng = np.random.default_rng(0)
    for i in range(5):
        x = (1.0 if i % 2 == 0 else -1.0) * rng.uniform(0.5, 1, 3)
        loss, (g,) = step(x)
        direction = rng.normal(size=3)
        if why == "arithmetic on raw arrays":
            np.testing.assert_allclose(g, x + 1)
        if why == "a branch on the data":
            np.testing.assert_allclose(g, x if x[0] > 0 else 2 * w.data)
        w.data += 1e-3 * direction
        assert loss.number == 0 or step.why_eager or i <= 1
    assert "a replay differs from the step" in step.why_eager


def test_gradients_that_lie_strewn_are_captured():
    """The gradient of the log-likelihoods comes transposed: before the kernel NumPy puts it in order."""
    l, x = (
        mv.Tensor(np.linspace(-2, 2, 4 * 3 * 6, dtype=np.float32).reshape(4, 3, 6)),
        np.linspace(0, 1, 18, dtype=np.float32).reshape(3, 6),
    )
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    step = captured(lambda x: (ops.transpose(ops.bernoulli_log_prob(l, x)) * weights).sum(), [l])
    for _ in range(4):
        x = x[::-1].copy()
        loss, (g,) = step(x)
        eager, (exact,) = step.eager(x)
        np.testing.assert_array_equal(g, exact)
        assert loss.item() == eager.item()
    assert step.why_eager == ""


def test_dropout_and_two_streams_fall_back_or_agree():
    model = nn.Sequential(nn.Dense(6, 5, mv.Stream(0), "relu"), nn.Dropout(0.5, mv.Stream(3)), nn.Dense(5, 1, mv.Stream(1)))
    twin = nn.Sequential(nn.Dense(6, 5, mv.Stream(0), "relu"), nn.Dropout(0.5, mv.Stream(3)), nn.Dense(5, 1, mv.Stream(1)))
    step = captured(lambda x: (model(x) ** 2).mean(), model.parameters())
    for x in batches((6,), (4, 4, 4, 4, 4)):
        _, gradients = step(x)
        for a, b in zip(gradients, mv.gradients((twin(x) ** 2).mean(), twin.parameters()), strict=True):
            np.testing.assert_array_equal(a, b)


def test_recording_is_off_outside_of_its_block():
    a = np.ones((3, 4), np.float32)
    with recorded() as calls:
        ops.dense(a, np.ones((4, 2), np.float32))
    n = len(calls)
    assert n > 0
    ops.dense(a, np.ones((4, 2), np.float32))
    assert len(calls) == n


def test_a_recording_within_another_ends_alone():
    """Both have heard nothing when the inner one ends, so that the two are equal; later they hold arrays, which cannot be compared."""
    with recorded() as outer:
        with recorded():
            pass
        watch.incomplete()
        with recorded() as inner:
            ops.dense(np.ones((3, 4), np.float32), np.ones((4, 2), np.float32))
    assert outer[0] == watch.ELSEWHERE
    assert len(outer) == 1 + len(inner) > 1
    assert not watch._recorders


def test_many_shapes_do_not_fill_the_memory():
    w = mv.Tensor(np.ones(3))
    step = captured(lambda x: (w * x).sum(), [w])
    for n in range(1, 40):
        _, (g,) = step(np.ones((n, 3)))
        np.testing.assert_array_equal(g, n)
    assert len(step.replay.programs) == 8
