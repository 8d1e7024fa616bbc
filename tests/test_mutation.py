"""A few mutants of `python tests/mutation.py`, which takes them all: each is noticed by a quick law, and leaves nothing behind."""

import pytest

from minivae.ops import arithmetic, densities

from . import mutation

PLANTED = [
    ("subtract_vjp", "-g -> g"),
    ("power_vjp", "g * exponent -> g"),
    ("sqrt_vjp", "2 -> 1"),
    ("log_vjp", "g / x -> -(g / x)"),
    ("reparameterize_reference", "logvar / 2 -> logvar"),
    ("gaussian_kl_standard_reference", "(mean * mean + exp_remainder_of(logvar)) / 2 -> mean * mean + exp_remainder_of(logvar)"),
]


@pytest.fixture(scope="module")
def mutants():
    return list(mutation.mutants())


def test_there_are_mutants_of_every_family(mutants):
    assert {mutant.module for mutant in mutants} == {*mutation.OPS, "distributions"}
    assert len(mutants) > 500


@pytest.mark.parametrize(("function", "change"), PLANTED)
def test_a_mutant_is_noticed(mutants, function, change):
    (mutant, *_) = [m for m in mutants if m.name == function and m.change.partition(": ")[2] == change]
    assert mutation.noticed_by_laws(mutant)
    sound = mutation.Mutant(mutant.module, mutant.function, mutant.function.__code__, "no change")
    assert not mutation.noticed_by_laws(sound)


def test_the_original_comes_back(mutants):
    (mutant, *_) = [m for m in mutants if m.name == "negative_vjp"]
    with mutation.in_place(mutant):
        assert arithmetic.negative_vjp(1.0) == (1.0,)
    assert arithmetic.negative_vjp(1.0) == (-1.0,)
    assert densities.LOG_2PI > 1
