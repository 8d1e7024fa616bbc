"""All that a training step does on a GPU can be part of a CUDA graph: ops with kernels, ops whose reference runs on CuPy arrays, and
whole losses with their gradients.  Seen on the fake CuPy, which refuses what a graph cannot hold, and replays the rest."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from minivae import Op, Stream, Tensor, gradients
from minivae.models import build, conditioned
from minivae.objectives import Capacity, FreeBits, Iwae, TotalCorrelation, elbo

from ..ops.laws import pulled_back, value
from ..ops.table import TABLE, cases
from .host import needs_compiler
from .host.fake_cupy import installed, replayed
from .test_table import judged

pytestmark = needs_compiler


@pytest.mark.parametrize("name", TABLE)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_the_table_of_ops_can_be_captured(monkeypatch, name, data, seed):
    case = data.draw(cases(name))
    if name == "getitem":  # an index array has to be on the device, and the size of the result may not depend on one
        parts = case.options["index"] if isinstance(case.options["index"], tuple) else (case.options["index"],)
        assume(not any(isinstance(part, np.ndarray) and part.dtype == bool for part in parts))

    def compute(inputs, cotangents):
        with installed(monkeypatch) as cupy:
            there, u = ([cupy.asarray(a) for a in arrays] for arrays in (inputs, cotangents))
            own = case
            if name == "getitem":
                own = replace(case, options={"index": tuple(cupy.asarray(p) if isinstance(p, np.ndarray) else p for p in parts)})
            y, g = replayed(cupy, lambda: (value(own, there), pulled_back(own, u, there)))
            return [a.get() for a in y], [a.get() for a in g]

    judged(name, case, seed, compute)


MODELS = [
    {"model": "vae"},
    {"model": "vae", "head": "log_sigma", "activation": "silu"},
    {"model": "vae", "likelihood": "gaussian"},
    {"model": "vae", "likelihood": "laplace", "activation": "elu"},
    {"model": "vae", "likelihood": "continuous_bernoulli"},
    {"model": "vae", "likelihood": "beta_binomial"},
    {"model": "vae", "likelihood": "discretized_logistic"},
    {"model": "vae", "arch": "conv", "channels": [3], "hidden": [5]},
    {"model": "vae", "arch": "gru", "hidden": [5]},
    {"model": "vae", "arch": "lstm", "hidden": [5]},
    {"model": "ae"},
    {"model": "hierarchical"},
    {"model": "cvae", "condition": 3},
    {"model": "cvae", "condition": 3, "prior_kind": "learned", "arch": "conv", "channels": [3], "hidden": [5]},
]
OBJECTIVES = {
    "elbo": elbo,
    "beta": lambda model, x, rng: elbo(model, x, rng, 4.0),
    "iwae": Iwae(3),
    "capacity": Capacity(10.0, 5.0),
    "free bits": FreeBits(),
    "total correlation": lambda model, x, rng: TotalCorrelation()(model, x, rng, size=100),
}
STORIES = [(model, "elbo") for model in MODELS] + [({"model": "vae"}, name) for name in list(OBJECTIVES)[1:]]


SHAPES_OF_NOISE = [(4, 3), (3, 4, 3), (4, 2), (4, 1)]


class GivenNoise:
    """A stream that was drawn from before."""

    def __init__(self, like):
        self.like, self.seed = like, 0

    def normal(self, shape, like=None):
        self.seed += 1
        return self.like(Stream(self.seed).normal(shape))


@pytest.mark.parametrize(
    ("description", "objective"), STORIES, ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values()))
)
def test_a_loss_and_its_gradients_can_be_captured(monkeypatch, description, objective):
    model = build({"image_shape": (8, 8, 1), "latent": 3, "hidden": [6]} | description, Stream(0))
    x = np.rint(255 * Stream(1).uniform((4, 8, 8, 1))) / np.float32(255)
    labels = np.array([0, 2, 1, 1]) if description["model"] == "cvae" else None

    def step(x, labels, noise):
        terms = OBJECTIVES[objective](conditioned(model, labels), x, noise)
        return terms.loss.data, *gradients(terms.loss, model.parameters())

    exact = step(x, labels, GivenNoise(lambda numbers: numbers))
    with installed(monkeypatch) as cupy:
        model.to("cuda")
        there = None if labels is None else cupy.asarray(labels)
        x, held = cupy.asarray(x), {}
        for seed in (1, 2):  # what draws in a captured step is judged elsewhere: here its numbers lie ready
            held |= {Stream(seed).normal(shape).tobytes(): cupy.asarray(Stream(seed).normal(shape)) for shape in SHAPES_OF_NOISE}
        noise = GivenNoise(lambda numbers: held[numbers.tobytes()])
        found = [a.get() for a in replayed(cupy, lambda: step(x, there, noise))]
    for a, b in zip(exact, found, strict=True):
        # both in float32; a sum of 64 pixels and a few layers: some hundred roundings of what is added up
        assert_allclose(b, a, rtol=0, atol=500 * 2.0**-24 * max(1, abs(a).max()))


def test_a_product_by_the_reference_is_noticed(monkeypatch):
    """The law sees an op whose kernel is gone."""
    monkeypatch.setattr(Op.registry["matmul"], "cupy", Op.registry["matmul"].reference)
    with installed(monkeypatch) as cupy:
        x = cupy.asarray(np.eye(2, dtype=np.float32))
        with pytest.raises(NotImplementedError, match="cuBLAS"):
            replayed(cupy, lambda: Op.registry["matmul"](Tensor(x), x))
