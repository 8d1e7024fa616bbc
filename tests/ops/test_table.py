"""The laws that every op obeys, on every backend: see table.py for the inputs and laws.py for the means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivae import Op, use_backend

from .laws import (
    LAYOUTS,
    active,
    basis,
    direction,
    inner,
    magnitudes,
    moved,
    pulled_back,
    pushed_forward,
    value,
    vjp_of,
)
from .table import TABLE, cases, corner_cases

EPS, EPS32 = np.finfo(np.float64).eps, np.finfo(np.float32).eps
every_op = pytest.mark.parametrize("name", TABLE)
seeds = st.integers(0, 10**6)


def test_every_op_has_an_entry():
    ops = {name for name, op in Op.registry.items() if op.reference[0].__module__.startswith("minivae.")}
    assert ops == set(TABLE)


@every_op
def test_corners_are_0d_or_empty(name):
    assert all(any(a.ndim == 0 or a.size == 0 for a in case.inputs) for case in corner_cases(name))


def check_differences(case, seed):
    """<u, F(x + hv) - F(x - hv)> / 2h = <J'u, v>, and the same gradients from every memory layout.

    h = eps^(1/3) balances truncation, |F'''| h^2 / 6 (derivatives here are of the order of one another), and rounding, eps |F| / h.
    """
    rng = np.random.default_rng(seed)
    u = direction(rng, value(case))
    g = pulled_back(case, u)
    assert [part.shape for part in g] == [x.shape for x in active(case)]
    assert all(part.dtype == np.float64 for part in g)
    v = direction(rng, g)
    h = EPS ** (1 / 3)
    plus, minus = (value(case, moved(case, [sign * h * a for a in v])) for sign in (1, -1))
    slope = sum(inner([c], [p - m]) for c, p, m in zip(u, plus, minus, strict=True)) / (2 * h)
    rounding = EPS / h * (inner(u, plus, abs) + inner(g, active(case), abs) + sum(c.size for c in u))
    assert abs(slope - inner(g, v)) <= 1e-6 * inner(g, v, abs) + 8 * rounding
    for layout, lay in LAYOUTS.items():
        same = pulled_back(case, [lay(c) for c in u], [lay(a) for a in case.inputs])
        for part, other in zip(g, same, strict=True):
            np.testing.assert_allclose(other, part, rtol=1e-12, atol=1e-12, err_msg=layout)


@every_op
@given(data=st.data(), seed=seeds)
def test_gradient_is_the_limit_of_differences(name, data, seed):
    check_differences(data.draw(cases(name)), seed)


@every_op
def test_gradient_of_0d_and_empty_inputs(name):
    for case in corner_cases(name):
        check_differences(case, 1)


@every_op
@given(data=st.data(), seed=seeds)
def test_gradient_is_the_complex_step(name, data, seed):
    """Element by element, d<u, F>/dx_j = Im <u, F(x + ih e_j)> / h; and along a random direction, <u, Jv> = <J'u, v>."""
    case, rng = data.draw(cases(name)), np.random.default_rng(seed)
    u = direction(rng, value(case))
    g = pulled_back(case, u)
    assert [part.shape for part in g] == [x.shape for x in active(case)]
    columns = [(inner(u, column), inner(u, column, abs)) for column in (pushed_forward(case, v) for v, _, _ in basis(g))]
    flat = np.concatenate([part.ravel() for part in g])
    scale = max((size for _, size in columns), default=0)
    np.testing.assert_allclose(flat, [slope for slope, _ in columns], rtol=1e-12, atol=1e-12 * scale)
    v = direction(rng, g)
    jv = pushed_forward(case, v)
    assert abs(inner(u, jv) - inner(g, v)) <= 1e-12 * (inner(u, jv, abs) + inner(g, v, abs) + scale)


@every_op
@given(data=st.data(), seed=seeds)
def test_hessian_by_a_complex_step_through_the_backward_pass(name, data, seed):
    """H v = Im J'u(x + ihv) / h is the limit of the differences of J'u, and symmetric: <w, Hv> = <v, Hw>."""
    case, rng = data.draw(cases(name)), np.random.default_rng(seed)
    u = direction(rng, value(case))
    g = pulled_back(case, u)
    v, w = direction(rng, g), direction(rng, g)
    hv, hw = ([part.imag / 1e-30 for part in pulled_back(case, u, moved(case, [1e-30j * a for a in d]))] for d in (v, w))
    size = inner(w, hv, abs) + inner(v, hw, abs)
    assert abs(inner(w, hv) - inner(v, hw)) <= 1e-12 * (size + inner(w, g, abs))
    h = EPS ** (1 / 3)
    plus, minus = (pulled_back(case, u, moved(case, [sign * h * a for a in v])) for sign in (1, -1))
    slope = [(p - m) / (2 * h) for p, m in zip(plus, minus, strict=True)]
    rounding = EPS / h * (inner(w, g, abs) + inner(hw, active(case), abs) + sum(c.size for c in u))
    assert abs(inner(w, slope) - inner(w, hv)) <= 1e-6 * size + 8 * rounding


@every_op
@given(data=st.data(), seed=seeds)
def test_float32_on_every_backend(name, data, seed):
    """Off the float64 reference on the same numbers by a few units of rounding of |F| + |J||x|.

    Few: 16, for a chain of at most 8 operations of up to 2 units each (NumPy's and the kernels' exponentials), and for sums of 36 terms,
    whose errors are random.  A value is judged element by element, a gradient by its array's largest.
    """
    case, rng = data.draw(cases(name)), np.random.default_rng(seed)
    single = [a if a.dtype == bool else a.astype(np.float32) for a in case.inputs]
    u32 = [c.astype(np.float32) for c in direction(rng, value(case))]
    u = [c.astype(np.float64) for c in u32]
    case.inputs[:] = [a if a.dtype == bool else a.astype(np.float64) for a in single]
    y, g = value(case), pulled_back(case, u)
    of_value, of_gradient = magnitudes(case, u)
    units = TABLE[name].units * EPS32 / 2
    for backend in ("numpy", "numba"):
        with use_backend(backend):
            y32, g32 = value(case, single), pulled_back(case, u32, single)
        for name_of, exact, found, size in (("value", y, y32, of_value), ("gradient", g, g32, of_gradient)):
            for a, b, m in zip(exact, found, size, strict=True):
                assert b.dtype == np.float32, (backend, name_of, b.dtype)
                assert a.shape == b.shape, (backend, name_of)
                bound = units * (m if name_of == "value" else m.max(initial=0))
                assert np.all(abs(a - b) <= bound), (backend, name_of, abs(a - b) / np.maximum(bound, 1e-300))


@every_op
@given(data=st.data(), seed=seeds)
def test_contract(name, data, seed):
    """Nothing given to an op is changed by it; one gradient an input; a constant's gradient can be left out."""
    drawn, rng = data.draw(cases(name)), np.random.default_rng(seed)
    for backend, dtype in (("numpy", np.float64), ("numpy", np.float32), ("numba", np.float32)):
        inputs = [a if a.dtype == bool else a.astype(dtype) for a in drawn.inputs]
        with use_backend(backend):
            copies = [a.copy() for a in inputs]
            u = [c.astype(dtype) for c in direction(rng, value(drawn, inputs))]
            copies_of_u = [c.copy() for c in u]
            parts = vjp_of(drawn, u, inputs)
            for before, after in zip(copies + copies_of_u, inputs + u, strict=True):
                np.testing.assert_array_equal(after, before)
            assert len(parts) >= len(inputs), parts
            assert all(part is None for part in parts[len(inputs) :]), parts
            assert [i for i, part in enumerate(parts) if part is not None] == list(drawn.active)
            full = pulled_back(drawn, u, inputs)
            for subset in range(1, 2 ** len(drawn.active) - 1):
                chosen = tuple(i for k, i in enumerate(drawn.active) if subset >> k & 1)
                some = pulled_back(drawn, u, inputs, chosen)
                for i, part in zip(chosen, some, strict=True):
                    np.testing.assert_array_equal(part, full[drawn.active.index(i)])
