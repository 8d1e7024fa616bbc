"""Every op of the library: how its inputs are drawn.  `test_table.py` holds each entry to the same laws.

Shapes come from hypothesis; values and options are a function of a seed.  Values stay at least 0.05 away from every kink and pole, which
is far more than the step of any difference quotient.  All references are analytic there, so that no entry is excused from the complex step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minivae import Op

from .draws import (
    above_minus_one,
    anywhere,
    arrays,
    axis_or_all,
    broadcasting,
    by_groups,
    convolutions,
    convolved,
    convolved_back,
    cut,
    dense_layers,
    distinct,
    divided,
    event,
    events,
    full_axis,
    fused,
    groups_of,
    indexed,
    mask,
    matrix_products,
    near_halves,
    near_integers,
    neighbours,
    nonzero,
    normalized,
    number,
    padded,
    permuted,
    positive,
    posteriors,
    probability,
    reshaped,
    sequences,
    some_axes,
    stretched,
)

Shape = tuple[int, ...]
Sampler = Callable[[np.random.Generator, Shape], np.ndarray]


@dataclass(frozen=True)
class Case:
    """One call of an op: float64 inputs (or a mask), options, and which of the inputs have gradients."""

    op: Op
    inputs: list[np.ndarray]
    options: dict[str, Any]
    active: tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    shapes: st.SearchStrategy[tuple[Shape, ...]]  # one shape an input
    values: tuple[Sampler, ...]  # one sampler an input
    options: Callable[[np.random.Generator, tuple[Shape, ...]], dict[str, Any]] = lambda rng, shapes: {}
    constants: tuple[int, ...] = ()  # inputs that no gradient flows to
    corners: tuple[tuple[Shape, ...], ...] = ()  # 0-d and empty inputs, where the op is defined there
    units: int = 16  # of rounding: how far a float32 result may be off

    def case(self, name: str, shapes: tuple[Shape, ...], seed: int) -> Case:
        rng = np.random.default_rng(seed)
        inputs = [sample(rng, shape) for sample, shape in zip(self.values, shapes, strict=False)]
        options = self.options(rng, shapes)
        active = tuple(i for i in range(len(inputs)) if i not in self.constants)
        case = Case(Op.registry[name], inputs, options, active)
        return leave_the_kink(case) if options.get("activation") == "relu" else case


def leave_the_kink(case: Case) -> Case:
    """A fused relu whose argument comes too near to 0 becomes a tanh."""
    h = case.op(*case.inputs, **case.options | {"activation": None}).data
    smooth = h.size and abs(h).min() < 0.01
    return Case(case.op, case.inputs, case.options | {"activation": "tanh"}, case.active) if smooth else case


POINTS = ((),), ((0,),), ((2, 0, 3),)
PAIRS = ((), ()), ((), (2,)), ((2, 0), (1,)), ((0,), ())
TRIPLES = ((), (), ()), ((), (2,), ()), ((2, 0), (1,), ())


def pointwise(values, options=lambda rng, shapes: {}):
    return Entry(arrays(), (values,), options, corners=POINTS)


def pairwise_op(a, b):
    return Entry(broadcasting(2), (a, b), corners=PAIRS)


MANY = (anywhere,) * 6

TABLE: dict[str, Entry] = {
    "add": pairwise_op(anywhere, anywhere),
    "subtract": pairwise_op(anywhere, anywhere),
    "multiply": pairwise_op(anywhere, anywhere),
    "divide": pairwise_op(anywhere, nonzero),
    "maximum": pairwise_op(near_integers, near_halves),
    "minimum": pairwise_op(near_integers, near_halves),
    "where": Entry(broadcasting(3), (mask, anywhere, anywhere), constants=(0,), corners=TRIPLES),
    "negative": pointwise(anywhere),
    "power": pointwise(positive, number("exponent", 0, 1, 2, 3, -1, 0.5, -1.5, 2.0)),
    "exp": pointwise(anywhere),
    "expm1": pointwise(anywhere),
    "log": pointwise(positive),
    "log1p": pointwise(above_minus_one),
    "sqrt": pointwise(positive),
    "square": pointwise(anywhere),
    "absolute": pointwise(nonzero),
    "relu": pointwise(nonzero),
    "leaky_relu": pointwise(nonzero, number("slope", 0.01, 0.2)),
    "elu": pointwise(nonzero, number("alpha", 1.0, 0.7)),
    "silu": pointwise(anywhere),
    "tanh": pointwise(anywhere),
    "sigmoid": pointwise(anywhere),
    "softplus": pointwise(anywhere),
    "softmax": Entry(arrays(1, min_side=1), MANY, full_axis, corners=(((0, 3),),)),
    "log_softmax": Entry(arrays(1, min_side=1), MANY, full_axis, corners=(((0, 3),),)),
    "sum": Entry(arrays(), MANY, some_axes, corners=POINTS),
    "mean": Entry(arrays(min_side=1), MANY, some_axes, corners=(((),),)),
    "max": Entry(arrays(min_side=1), (distinct,), axis_or_all, corners=(((),),)),
    "min": Entry(arrays(min_side=1), (distinct,), axis_or_all, corners=(((),),)),
    "logsumexp": Entry(arrays(min_side=1), MANY, some_axes, corners=(((),),)),
    "reshape": Entry(arrays(), MANY, reshaped, corners=POINTS),
    "transpose": Entry(arrays(), MANY, permuted, corners=POINTS),
    "broadcast_to": Entry(arrays(), MANY, stretched, corners=POINTS),
    "getitem": Entry(arrays(1, min_side=1), MANY, indexed, corners=(((2, 0, 3),),)),
    "concatenate": Entry(neighbours(), MANY, lambda rng, shapes: {"axis": [0, -len(shapes[0])][rng.integers(2)]}, corners=(((0,), (0,)),)),
    "split": Entry(arrays(1), MANY, cut, corners=(((0,),), ((2, 0),))),
    "pad": Entry(arrays(1), MANY, padded, corners=POINTS[1:]),
    "matmul": Entry(matrix_products(), MANY, corners=(((0,), (0,)), ((2, 0), (0, 3)), ((2,), (0, 2, 3)))),
    "dense": Entry(dense_layers(), MANY, fused, corners=(((0, 3), (3, 2), (2,)), ((2, 0), (0, 2)), ((2, 3), (3, 0), (0,)))),
    "conv2d": Entry(convolutions(), MANY, convolved, corners=(((0, 3, 3, 1), (2, 2, 1, 2), (2,)),)),
    "conv_transpose2d": Entry(convolutions(True), MANY, convolved_back, corners=(((0, 2, 2, 1), (2, 2, 2, 1), (2,)),)),
    "gru": Entry(
        sequences(3), MANY, corners=(((0, 2, 2), (0, 1), (2, 3), (1, 3), (3,), (1,)), ((2, 0, 2), (2, 1), (2, 3), (1, 3), (3,), (1,)))
    ),
    "lstm": Entry(
        sequences(4), MANY, corners=(((0, 2, 2), (0, 1), (0, 1), (2, 4), (1, 4), (4,)), ((2, 0, 2), (2, 1), (2, 1), (2, 4), (1, 4), (4,)))
    ),
    "bernoulli_log_prob": Entry(events(2), (anywhere, probability), event, corners=PAIRS),
    # its slope is 1/l - 1/sinh l for l > 1/2: 2 - 1.92 there, a loss of 25 times
    "continuous_bernoulli_log_normalizer": replace(pointwise(anywhere), units=64),
    "exp_remainder": pointwise(anywhere),
    # terms of up to 9.5, where log Gamma(1.46) is -0.12 and its slope 0: a loss of 79 times
    "log_gamma": replace(pointwise(positive), units=512),
    # the parts of a log-probability of -2 are of the size of n, 7 at most
    "beta_binomial_log_prob": Entry(
        events(3),
        (anywhere, anywhere, lambda rng, shape: rng.integers(0, 4, shape).astype(float)),
        lambda rng, shapes: event(rng, shapes) | number("n", 3, 7)(rng, shapes),
        constants=(2,),
        corners=TRIPLES,
        units=128,
    ),
    "reparameterize": Entry(broadcasting(3), MANY, corners=TRIPLES),
    "gaussian_log_prob": Entry(events(3), MANY, event, corners=TRIPLES),
    "gaussian_kl_standard": Entry(events(2), MANY, event, corners=PAIRS),
    "sample_and_kl": Entry(posteriors(), MANY, event, corners=TRIPLES),
    "batch_norm": Entry(normalized(2, 3), (distinct, nonzero, anywhere), number("eps", 1e-5, 0.1)),
    "layer_norm": Entry(normalized(1, 3), (distinct, nonzero, anywhere), number("eps", 1e-5, 0.1), corners=(((0, 3), (3,), (3,)),)),
    "group_norm": Entry(
        by_groups(), (distinct, nonzero, anywhere), groups_of, corners=(((0, 3, 2), (2,), (2,)), ((0, 3, 2), (0, 2), (2,)))
    ),
    "gdn": Entry(
        divided(), (anywhere, positive, positive), number("inverse", False, True), corners=(((0, 3), (3,), (3, 3)), ((2, 0), (0,), (0, 0)))
    ),
}


def cases(name: str) -> st.SearchStrategy[Case]:
    entry = TABLE[name]
    shapes = st.sampled_from(entry.corners) | entry.shapes if entry.corners else entry.shapes
    return st.builds(lambda shapes, seed: entry.case(name, shapes, seed), shapes, st.integers(0, 10**6))


def corner_cases(name: str) -> list[Case]:
    return [TABLE[name].case(name, shapes, seed) for shapes in TABLE[name].corners for seed in range(4)]
