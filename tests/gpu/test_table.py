"""The entries of the op table, through the engine, with the GPU's kernels in the place of the CPU's: shapes, layouts, options, corners."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivae import Op, use_backend
from minivae.kernels.gpu import KERNELS

from ..ops.laws import LAYOUTS, direction, magnitudes, pulled_back, value
from ..ops.table import TABLE, cases
from .host import host, needs_compiler

pytestmark = needs_compiler
EPS = 2.0**-24


def judged(name, case, seed, compute):
    """compute(inputs, cotangents) -> values and gradients in float32, off the float64 reference by a few units of rounding."""
    rng = np.random.default_rng(seed)
    if name in ("gru", "lstm"):  # a slope read off a saturated gate has lost its digits, the reference's too: stay where gates are open
        case.inputs[:] = [a / 4 for a in case.inputs]
    inputs = [a if a.dtype == bool else a.astype(np.float32) for a in case.inputs]
    cotangents = [c.astype(np.float32) for c in direction(rng, value(case))]
    u = [c.astype(np.float64) for c in cotangents]
    case.inputs[:] = [a if a.dtype == bool else a.astype(np.float64) for a in inputs]
    exact = value(case), pulled_back(case, u)
    for truth, found, size, judge in zip(exact, compute(inputs, cotangents), magnitudes(case, u), (np.asarray, np.max), strict=True):
        for a, b, m in zip(truth, found, size, strict=True):
            assert (b.dtype, b.shape) == (np.float32, a.shape)
            bound = TABLE[name].units * EPS * (judge(m) if m.size else 0)
            assert np.all(abs(a - b) <= bound), abs(a - b) / np.maximum(bound, 1e-300)


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 10**6), layout=st.sampled_from(list(LAYOUTS)))
def test_kernels_obey_the_table_of_ops(name, data, seed, layout):
    case, lay = data.draw(cases(name)), LAYOUTS[layout]
    op = Op.registry[name]
    before = op.numba, op.only_reference

    def compute(inputs, cotangents):
        def run():
            laid = [lay(a) for a in inputs]
            return value(case, laid), pulled_back(case, [lay(c) for c in cotangents], laid)

        op.numba, op.only_reference = KERNELS[name], False  # NumPy arrays stand for those of a GPU here
        try:
            with use_backend("numba"):
                return host(run)
        finally:
            op.numba, op.only_reference = before

    judged(name, case, seed, compute)


def test_the_judge_sees_a_wrong_kernel(monkeypatch):
    forward, vjp = KERNELS["softplus"]
    monkeypatch.setitem(KERNELS, "softplus", (forward, lambda g, *saved: (vjp(g, *saved)[0] * np.float32(1.00001),)))
    with pytest.raises(AssertionError):
        test_kernels_obey_the_table_of_ops.hypothesis.inner_test(
            "softplus", Drawn(TABLE["softplus"].case("softplus", ((3, 4),), 1)), 1, "strided"
        )


class Drawn:
    def __init__(self, case):
        self.case = case

    def draw(self, _):
        return self.case
