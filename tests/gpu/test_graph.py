"""Epochs on a GPU, as graphs and eagerly, without one: fake_cupy captures by address, replays, and refuses what CUDA refuses."""

from dataclasses import replace

import numpy as np
import pytest

import minivae as mv
from minivae import nn, ops
from minivae.backend import xp
from minivae.errors import NonFiniteError, ShapeError
from minivae.kernels.gpu import step
from minivae.objectives import Capacity, Elbo, FreeBits, Iwae, elbo
from minivae.replay import captured
from minivae.training import SGD, Adam, Trainer, TrainingConfig, clip_gradients, gradient_norm, graph

from .host import needs_compiler
from .host.fake_cupy import installed
from .host.memory import IllegalAddress, Now

pytestmark = needs_compiler
SHAPE = (4, 3, 1)
SMALL = {"latent": 2, "hidden": (5,)}
IMAGES = np.random.default_rng(0).integers(0, 256, (35, *SHAPE), np.uint8)  # four batches of 8, and 3 more


@pytest.fixture
def cupy(monkeypatch):
    with installed(monkeypatch) as module:
        yield module


class WithMoments(mv.VAE):
    """Running moments, and a stream of a layer's own."""

    replayable = True

    def __init__(self, **options):
        super().__init__(**options)
        self.encoder.layers[2:2] = [nn.BatchNorm(5), nn.Dropout(0.25, mv.Stream(7))]


def build(device="cuda", **options):
    kind = options.pop("kind", None)
    make = (
        WithMoments if kind is WithMoments else lambda **rest: mv.models.build({**({"model": kind} if kind else {}), **rest}, mv.Stream(0))
    )
    arguments = {name: value for name, value in {"image_shape": SHAPE, **SMALL, **options}.items() if value is not None}
    return (make(rng=mv.Stream(0), **arguments) if kind is WithMoments else make(**arguments)).to(device)


def promised(function):
    """A function of which somebody says that it computes with ops alone."""
    function.replayable = True
    return function


def trained(config, eager=False, epochs=3, model=None, objective=None, **options):
    """(trainer, the measures of each epoch) on IMAGES."""
    objective = config.get("objective", objective)
    settings = {name: value for name, value in config.items() if name != "objective"}
    trainer = Trainer(model or build(**options), TrainingConfig(batch_size=8, epochs=epochs, **settings), objective)
    if eager:
        trainer.on_gpu = graph.DeviceEpochs(trainer)
        trainer.on_gpu.refused = lambda: "the test asks for it"
    return trainer, [trainer.epoch(IMAGES) for _ in range(epochs)]


def same_state(a, b):
    (arrays, metadata), (others, also) = a.state(), b.state()
    return metadata == also and all(arrays[name].tobytes() == others[name].tobytes() for name in arrays)


STORIES = {
    "plain": ({}, {}),
    "cosine": ({"lr_schedule": "cosine", "lr_warmup": 0.5}, {}),
    "kl warm-up": ({"objective": Elbo(kl_warmup=1.5)}, {}),
    "binarized": ({"binarize": True}, {}),
    "adamw": ({"optimizer": "adamw"}, {}),
    "clipped": ({"clip": 1.0}, {}),  # about the mean of the norms
    "iwae": ({"objective": Iwae(3)}, {"activation": "tanh"}),
    "capacity": ({"objective": Capacity(3.0, 2.0)}, {}),
    "free bits": ({"objective": FreeBits()}, {"head": "log_sigma"}),
    "batch norm and dropout": ({}, {"kind": WithMoments}),
    "autoencoder": ({}, {"kind": "ae"}),
    "hierarchical": ({}, {"kind": "hierarchical", "latent": 3}),
    "conv": ({}, {"arch": "conv", "channels": (2,)}),
    "gru": ({}, {"arch": "gru"}),
    "lstm": ({}, {"arch": "lstm"}),
    "gru and kl warm-up": ({"objective": Elbo(kl_warmup=1.5)}, {"arch": "gru"}),
    "vamp": ({}, {"kind": "vamp"}),
    "flow": ({}, {"kind": "flow"}),
    "vq": ({}, {"kind": "vq", "latent": 4}),
    "diffusion": ({}, {"kind": "diffusion", "latent": None}),
    "unet": ({}, {"kind": "diffusion", "arch": "unet", "channels": (2,), "hidden": None, "latent": None}),
    "gaussian": ({}, {"likelihood": "gaussian", "activation": "silu"}),
    "laplace": ({}, {"likelihood": "laplace", "activation": "elu"}),
    "continuous": ({}, {"likelihood": "continuous_bernoulli", "activation": "leaky_relu"}),
}


@pytest.mark.parametrize("story", STORIES)
def test_a_graph_and_eager_steps_make_the_same_bits_and_nearly_those_of_the_cpu(cupy, story):
    config, options = STORIES[story]
    captured, measures = trained(config, **options)
    eager, also = trained(config, eager=True, **options)
    assert (captured.on_gpu.why_eager, eager.on_gpu.why_eager) == ("", "the test asks for it")
    assert captured.on_gpu.graphs
    assert not eager.on_gpu.graphs
    assert same_state(captured, eager)
    assert measures == also
    cpu, there = trained(config, device="cpu", **options)
    # Adam moves a parameter whose gradient is rounding alone, as that of a bias before a norm, by up to lr a step, 15 times
    noise = 15e-3 if story in ("batch norm and dropout", "unet") else 1e-4
    for a, b in zip(measures, there, strict=True):
        np.testing.assert_allclose([*a.values()], [*b.values()], rtol=noise)
    for name, a in cpu.state()[0].items():
        np.testing.assert_allclose(captured.state()[0][name], a, rtol=1e-3, atol=noise, err_msg=name)


def test_replays_are_launched_and_not_much_else(cupy, monkeypatch):
    launches, compiled = [], []
    launch = graph.Graph.launch
    monkeypatch.setattr(graph.Graph, "launch", lambda self: (launches.append(self), launch(self)))
    model = build()
    objective = promised(lambda *a, **k: (compiled.append(1), elbo(*a, **k))[1])
    trained({}, model=model, objective=objective)
    # 12 full steps, 3 short ones: the first is eager, the second captured, judged and replayed, the others replayed
    assert len(launches) == 1 + 10
    assert len(compiled) == 1 + 2 + 3


def test_stretches_end_where_somebody_looks(cupy, monkeypatch):
    monkeypatch.setattr(graph, "EVERY", 2)
    trainer = Trainer(build(), TrainingConfig(batch_size=8))
    seen = []
    for _ in range(2):
        trainer.epoch(IMAGES, progress=lambda done, loss: seen.append(done))
    assert seen == [8, 16, 32, 35, 16, 32, 35]
    whole, _ = trained({}, epochs=2)
    for name, a in trainer.state()[0].items():
        np.testing.assert_array_equal(a, whole.state()[0][name])


def test_what_changes_in_python_is_not_believed(cupy):
    calls = []

    @promised
    def objective(model, x, rng):
        calls.append(None)
        return elbo(model, x, rng, beta=1.0 + len(calls))

    trainer, _ = trained({}, objective=objective)
    assert "differs from the step" in trainer.on_gpu.why_eager
    assert not trainer.on_gpu.graphs


def test_a_forgotten_counter_is_not_believed(cupy, monkeypatch):
    tally = step.tally
    monkeypatch.setattr(graph.step, "tally", lambda *a: tally(*a[:5], [0] * len(a[5]), a[6]) if len(a) > 2 else tally(*a))
    assert "differs from the step" in trained({})[0].on_gpu.why_eager


def test_a_forgotten_position_shows_in_the_bits(cupy, monkeypatch):
    tally = step.tally

    def forgetful(*arguments):  # the position is put back to where it was
        found = tally(*arguments)
        if len(arguments) > 2:
            arguments[4][0, 2:3] -= 8
        return found

    monkeypatch.setattr(graph.step, "tally", forgetful)
    captured, _ = trained({})
    eager, _ = trained({}, eager=True)  # counts by itself
    assert captured.on_gpu.graphs
    assert not same_state(captured, eager)


def test_a_step_count_frozen_in_the_graph_shows_in_the_bits(cupy, monkeypatch):
    def launch(self, now, gradients, health=None, clip=None):
        self.now[1] = self.steps + (now is not self.now)
        step.adam(self.now, self.rate, (self.flat, self.m, self.v), self.slices, gradients, self.betas, self.eps, 0.0, health)

    monkeypatch.setattr(Adam, "launch", launch)
    captured, _ = trained({})
    eager, _ = trained({}, eager=True)
    assert not same_state(captured, eager)


def test_a_graph_outside_of_its_arena_is_seen(cupy, monkeypatch):
    class Nothing:
        def __enter__(self):
            pass

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(cupy.cuda, "using_allocator", lambda _: Nothing())
    with pytest.raises(IllegalAddress, match="belongs to somebody else by now"):
        trained({})


def test_an_arena_that_dies_before_its_graph_is_seen(cupy):
    trainer, _ = trained({}, epochs=1)
    (made,) = trainer.on_gpu.graphs
    made.memory.clear()
    del made.pool, made.results
    with pytest.raises(IllegalAddress, match="was freed"):
        made.launch()


def test_memory_of_the_arena_stays_though_the_pool_gives_it_back(cupy):
    trainer, _ = trained({}, epochs=1)
    trainer.on_gpu.graphs[0].pool.free_all_blocks()
    trainer.epoch(IMAGES)
    eager, _ = trained({}, eager=True, epochs=2)
    for name, a in eager.state()[0].items():
        np.testing.assert_array_equal(a, trainer.state()[0][name])


def test_memory_does_not_grow(cupy):
    trainer, _ = trained({}, epochs=2)
    before = Now.allocated
    for _ in range(5):
        trainer.epoch(IMAGES)
    assert Now.allocated == before


def exhausted(x):
    """What a graph of its own has no room for beside what the eager steps took."""
    if Now.graph is not None:
        Now.limit = Now.allocated
    return x.mean() * 0 + 1


@pytest.mark.parametrize(
    ("why", "factor"),
    [
        ("cuBLAS", lambda x, rng: (x.reshape(-1, 12) @ x.reshape(-1, 12).T).mean() * 0 + 1),
        ("copies 12 bytes from the CPU", lambda x, rng: xp(x).asarray(np.ones(3, np.float32)).mean()),
        ("draws random numbers on the CPU", lambda x, rng: float(rng.uniform(3)[0])),
        ("Out of memory", lambda x, rng: exhausted(x)),
        ("synchronous", lambda x, rng: float(x.mean())),
        ("synchronous", lambda x, rng: 1.0 if x.mean() > 0.5 else 2.0),
    ],
)
def test_what_a_graph_cannot_hold_stays_eager_and_is_said(cupy, why, factor):
    @promised
    def objective(model, x, rng):
        terms = elbo(model, x, rng)
        return terms._replace(loss=terms.loss * factor(x, rng))

    trainer, measures = trained({}, objective=objective)
    Now.limit = None
    assert trainer.on_gpu.why_eager.startswith("the step cannot be captured as a CUDA graph: ")
    assert why in trainer.on_gpu.why_eager
    eager, also = trained({}, eager=True, objective=objective)
    assert same_state(trainer, eager)
    assert measures == also


@pytest.mark.parametrize(
    ("config", "options", "why"),
    [({"optimizer": "sgd", "clip": 1.0}, {}, "only Adam")],
)
def test_what_stays_eager_trains_as_on_the_cpu(cupy, config, options, why):
    trainer, measures = trained(config, epochs=2, **options)
    assert why in trainer.on_gpu.why_eager
    _, there = trained(config, epochs=2, device="cpu", **options)
    for a, b in zip(measures, there, strict=True):
        np.testing.assert_allclose([*a.values()], [*b.values()], rtol=2e-5)


CONDITIONAL = {  # whether the condition is numbers, the objective, the model
    "labels": (False, None, {}),
    "numbers": (True, None, {}),
    "labels, learned prior": (False, None, {"prior_kind": "learned"}),
    "numbers, learned prior": (True, None, {"prior_kind": "learned"}),
    "gru and kl warm-up": (False, Elbo(kl_warmup=1.5), {"arch": "gru"}),
    "lstm and iwae": (False, Iwae(2), {"arch": "lstm"}),
    "conv": (True, None, {"arch": "conv", "channels": (2,)}),
}


@pytest.mark.parametrize("story", CONDITIONAL)
def test_conditions_are_told_of_the_right_images(cupy, story):
    as_numbers, objective, options = CONDITIONAL[story]
    conditions = np.random.default_rng(1).random((len(IMAGES), 3)).astype(np.float32) if as_numbers else np.arange(len(IMAGES)) % 3
    runs = {}
    for how in ("graph", "eager", "cpu"):
        model = build("cpu" if how == "cpu" else "cuda", kind="cvae", condition=3, **options)
        trainer = Trainer(model, TrainingConfig(batch_size=8), objective)
        if how == "eager":
            trainer.on_gpu = graph.DeviceEpochs(trainer)
            trainer.on_gpu.refused = lambda: "the test asks for it"
        runs[how] = trainer, [[*trainer.epoch(IMAGES, conditions).values()] for _ in range(3)]
    assert runs["graph"][0].on_gpu.why_eager == ""
    assert runs["graph"][0].on_gpu.graphs
    assert same_state(runs["graph"][0], runs["eager"][0])
    assert runs["graph"][1] == runs["eager"][1]
    np.testing.assert_allclose(runs["graph"][1], runs["cpu"][1], rtol=1e-4)


@promised
def dark(model, x, rng):
    """The ELBO, and nothing more, of images that are not all white: of those it is NaN."""
    terms = elbo(model, x, rng)
    return terms._replace(
        loss=terms.loss + ops.log(terms.kl.mean() * 0 + (0.75 - (x - x).sum() - x.reshape(len(x), -1).min(axis=1).max())) * 0
    )


def test_a_step_that_is_not_finite_is_named_and_moves_nothing(cupy):
    # the white image comes in the third epoch's third step: a replay, with another behind it
    at = mv.Stream(0).split("order of epoch 3").permutation(len(IMAGES))[2 * 8 + 1]
    model, images = build(), IMAGES.copy()
    trainer = Trainer(model, TrainingConfig(batch_size=8), dark)
    trainer.epoch(images)
    trainer.epoch(images)
    assert trainer.on_gpu.why_eager == ""
    images[at] = 255
    with pytest.raises(NonFiniteError, match=r"epoch 3, step 3 of 5: the op log made 1 of 1 numbers not finite"):
        trainer.epoch(images)
    assert trainer.optimizers["model"].steps == 2 * 5 + 2
    eager = Trainer(build(), TrainingConfig(batch_size=8), dark)
    eager.on_gpu = graph.DeviceEpochs(eager)
    eager.on_gpu.refused = lambda: "the test asks for it"
    for _ in range(2):
        eager.epoch(IMAGES)
    with pytest.raises(NonFiniteError):
        eager.epoch(images)
    assert same_state(trainer, eager)


def test_an_interrupted_stretch_is_counted(cupy, monkeypatch):
    trainer, _ = trained({}, epochs=1)
    launches, launch = [], graph.Graph.launch

    def interrupted(self):
        launches.append(None)
        if len(launches) == 3:
            raise KeyboardInterrupt
        launch(self)

    monkeypatch.setattr(graph.Graph, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.epoch(IMAGES)
    assert (trainer.optimizers["model"].steps, trainer.epochs_done) == (5 + 2, 1)


def test_a_checkpoint_moves_between_devices(cupy):
    there, _ = trained({}, epochs=1)
    here = Trainer(build("cpu"), there.config)
    here.load_state(*there.state())
    assert same_state(there, here)
    again = Trainer(build(), there.config)
    again.load_state(*here.state())
    there.epoch(IMAGES)
    again.epoch(IMAGES)
    assert same_state(there, again)
    here.epoch(IMAGES)
    for name, a in here.state()[0].items():
        np.testing.assert_allclose(there.state()[0][name], a, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_state_that_is_loaded_is_what_the_graph_goes_on_from(cupy):
    trainer, _ = trained({}, epochs=1)
    state = trainer.state()
    trainer.epoch(IMAGES)
    once = trainer.state()[0]
    trainer.load_state(*state)
    trainer.epoch(IMAGES)
    for name, a in trainer.state()[0].items():
        np.testing.assert_array_equal(a, once[name])


def test_images_that_lie_elsewhere_make_a_graph_of_their_own(cupy):
    trainer, _ = trained({}, epochs=1)
    (first,) = trainer.on_gpu.graphs
    trainer.epoch(cupy.asarray(IMAGES))
    assert [made is first for made in trainer.on_gpu.graphs] == [False]
    host, _ = trained({}, epochs=2)
    for name, a in host.state()[0].items():
        np.testing.assert_array_equal(a, trainer.state()[0][name])


def test_other_settings_make_a_graph_of_their_own(cupy):
    trainer, _ = trained({}, epochs=1)
    (first,) = trainer.on_gpu.graphs
    trainer.config = replace(trainer.config, clip=0.5, batch_size=4)
    trainer.epoch(IMAGES)
    assert [made is first for made in trainer.on_gpu.graphs] == [False]
    eager, _ = trained({}, eager=True, epochs=1)
    eager.config = trainer.config
    eager.epoch(IMAGES)
    assert same_state(trainer, eager)


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_a_stream_draws_on_a_gpu_what_it_draws_on_the_cpu(cupy, n):
    for like in (np.zeros(1, np.float32), np.zeros(1)):
        here, there = mv.Stream(3), mv.Stream(3)
        for draw in ("uniform", "normal"):
            a, b = getattr(here, draw)(n, like=like), getattr(there, draw)((n,), like=cupy.asarray(like))
            assert (type(b), b.dtype, b.shape) == (cupy.ndarray, like.dtype, (n,))
            if draw == "uniform" or like.dtype == np.float64:
                assert a.tobytes() == b.get().tobytes()
            np.testing.assert_allclose(b.get(), a, atol=1e-5)  # 5.8 (8 + 2 pi) 2^-24: test_step.py
            assert here.state() == there.state()
        assert here.words(n).tobytes() == there.words(n, like=cupy.asarray(like)).get().tobytes()


def test_the_norm_of_gradients_is_that_of_the_cpu(cupy):
    gs = [np.random.default_rng(i).normal(size=n).astype(np.float32) for i, n in enumerate((3, 2000, 0, 1))]
    assert gradient_norm([cupy.asarray(g) for g in gs]) == pytest.approx(gradient_norm(gs), rel=1e-12)
    assert gradient_norm([cupy.asarray(np.full(2, 1e30, np.float32))]) == pytest.approx(2**0.5 * 1e30, rel=1e-6)


def test_gradients_are_clipped_as_on_the_cpu(cupy):
    gs = [np.random.default_rng(i).normal(size=n).astype(np.float32) for i, n in enumerate((3, 2000))]
    for most in (1.0, 40.0, 50.0):  # their norm is 44.9
        for a, b in zip(clip_gradients(gs, most), clip_gradients([cupy.asarray(g) for g in gs], most), strict=True):
            np.testing.assert_array_max_ulp(a, b.get(), 1)
    zero = clip_gradients([cupy.asarray(np.zeros(3, np.float32))], 1.0)
    assert zero[0].get().tolist() == [0, 0, 0]


def test_sgd_on_a_gpu_is_sgd(cupy):
    here, there = (SGD([mv.Tensor(put(np.arange(3, dtype=np.float32)))], 0.1, 0.5) for put in (np.asarray, cupy.asarray))
    for _ in range(3):
        here.step([np.ones(3, np.float32)])
        there.step([cupy.asarray(np.ones(3, np.float32))])
    np.testing.assert_array_equal(there.flat.get(), here.flat)


def test_the_recorder_of_the_cpu_leaves_a_gpu_alone(cupy):
    w = mv.Tensor(cupy.asarray(np.ones(3, np.float32)))
    recorder = captured(lambda x: (w * x).sum(), [w])
    for i in range(4):
        x = cupy.asarray(np.full(3, i, np.float32))
        loss, (g,) = recorder(x)
        assert (loss.item(), g.get().tolist()) == (3 * i, [i] * 3)
    assert "on a GPU" in recorder.why_eager


@pytest.mark.parametrize("first", ["x", "w"])
def test_arrays_on_two_devices_are_one_sentence(cupy, first):
    x, w = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    x, w = (cupy.asarray(x), w) if first == "x" else (x, cupy.asarray(w))
    with pytest.raises(ShapeError, match=r"dense: some of its arrays are on the CPU, others on a GPU"):
        ops.dense(x, mv.Tensor(w))
