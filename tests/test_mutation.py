"""A few mutants of `python tests/mutation.py`, which takes them all: each is noticed by a quick law, and leaves nothing behind."""

import ast
import importlib

import pytest
from hypothesis import settings

from minivae.ops import arithmetic, densities

from . import mutation
from .conftest import PROFILE
from .mutants import Mutant, calls, changes, functions, mutants, of_ops
from .ops import test_judges, test_table

PLANTED = [
    ("subtract_vjp", "-g -> g"),
    ("power_vjp", "g * exponent -> g"),
    ("sqrt_vjp", "2 -> 1"),
    ("log_vjp", "g / x -> -(g / x)"),
    ("tanh_reference", "y -> -y"),
    ("reparameterize_reference", "logvar / 2 -> logvar"),
    ("gaussian_kl_standard_reference", "(mean * mean + exp_remainder_of(logvar)) / 2 -> mean * mean + exp_remainder_of(logvar)"),
    ("gru_vjp", "gstate[t, :, 2 * units:] *= r -> pass"),
]


@pytest.fixture(scope="module")
def laws_that_do_not_shrink():
    """What @given decorates keeps the profile of that moment."""
    modules = test_judges, test_table
    settings.load_profile("mutation")
    for module in modules:
        importlib.reload(module)
    yield
    settings.load_profile(PROFILE)
    for module in modules:
        importlib.reload(module)


@pytest.fixture(scope="module")
def every():
    return list(mutants())


def test_there_are_mutants_of_every_family(every):
    families = {"activations", "arithmetic", "conv", "dense", "densities", "gamma", "normalization", "recurrent", "reductions", "shapes"}
    assert {mutant.module for mutant in every} == families | {"engine", "dropout", "distributions", "objectives", "likelihood", "surgery"}
    assert len(every) > 1000


def test_every_op_is_mutated_in_its_value_and_in_its_vjp(every):
    """A sign at least can be flipped in each, or in what it calls."""
    mutated = {mutant.function for mutant in every}
    for name in {name for names in of_ops().values() for name in names}:
        for half in (0, 1):
            assert calls(densities.Op.registry[name].reference[half]) & mutated, name


def test_what_is_called_is_mutated_for_its_callers():
    summed = {"bernoulli_log_prob", "beta_binomial_log_prob", "gaussian_log_prob", "gaussian_kl_standard", "sample_and_kl"}
    assert set(of_ops()[densities.sum_event]) == summed
    assert not any("numba" in function.__name__ or function.__name__.startswith("check") for _, function in functions())


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a + b", ["a - b", "a", "b"]),
        ("a - b", ["a + b", "a", "-b"]),
        ("a * b", ["a", "b"]),
        ("a / b", ["a", "1 / b"]),
        ("a ** b", ["a"]),
        ("-a", ["a"]),
        ("-0.5", ["0.5"]),
        ("-1", []),
        ("2", ["1"]),
        ("3", []),
    ],
)
def test_what_may_stand_in_the_place_of_an_expression(expression, expected):
    node = ast.parse(expression, mode="eval").body
    assert [ast.unparse(new) for new in changes(node, False)] == expected
    assert [ast.unparse(new) for new in changes(node, True)] == [*expected, ast.unparse(ast.UnaryOp(ast.USub(), node))]


@pytest.mark.parametrize(("function", "change"), PLANTED)
@pytest.mark.usefixtures("laws_that_do_not_shrink")
def test_a_mutant_is_noticed(every, function, change):
    (mutant, *_) = [m for m in every if m.name == function and m.change == change]
    assert mutation.noticed_by_laws(mutant)
    assert not mutation.noticed_by_laws(Mutant(mutant.module, mutant.function, mutant.function.__code__, 0, "no change"))


def test_the_original_comes_back(every):
    (mutant, *_) = [m for m in every if m.name == "negative_vjp"]
    with mutation.in_place(mutant):
        assert arithmetic.negative_vjp(1.0) == (1.0,)
    assert arithmetic.negative_vjp(1.0) == (-1.0,)
    assert densities.LOG_2PI > 1
