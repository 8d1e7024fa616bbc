"""The bug zoo: every check fails on the bug and passes on the fix, every bug does the harm that is claimed, and both can be read."""

import inspect
from dataclasses import replace

import numpy as np
import pytest

from minivae import elbo
from minivae.cli import main, proof
from minivae.zoo import ZOO, Finding
from minivae.zoo.judges import X, exact_elbo, is_the_elbo, is_the_kl, over_the_noise
from minivae.zoo.nursery import BATCH, TEST, closed_kl, loss_with, sprites

every = pytest.mark.parametrize("specimen", ZOO.values(), ids=list(ZOO))


@every
def test_the_check_fails_on_the_bug_and_passes_on_the_fix(specimen):
    bug, fix = specimen.check(specimen.bug), specimen.check(specimen.fix)
    assert not bug.ok, bug
    assert fix.ok, fix
    assert not bug.size <= 1000 * bug.allowed or bug.size > 10 * bug.allowed > 0.1, bug  # by far, or as far as chance lets a check see


@every
def test_the_bug_does_harm(specimen):
    with np.errstate(all="ignore"):
        bug, fix = specimen.effect()
    assert bug.keys() == fix.keys()
    figure = next(iter(bug))
    assert np.isfinite(fix[figure])
    assert bug[figure] >= fix[figure] + specimen.least, (bug, fix)


@every
def test_bug_and_fix_fit_beside_each_other(specimen):
    for function in (specimen.bug, specimen.fix):
        assert len(inspect.getsource(function).splitlines()) <= 6
    assert inspect.signature(specimen.bug) == inspect.signature(specimen.fix)


def test_there_are_no_two_of_a_name():
    assert len(ZOO) == 21
    assert all(name == specimen.name for name, specimen in ZOO.items())


def test_a_finding_that_is_no_number_is_not_ok():
    assert Finding(0.0, 0.0, "").ok
    assert not Finding(float("nan"), 1.0, "").ok
    assert not replace(Finding(0.0, 0.0, ""), size=1e-300).ok


def test_the_judges_agree_with_the_library():
    """Its own ELBO, and its own closed form: the judges integrate, and share no formula with them."""
    assert is_the_elbo(lambda model, x, rng: elbo(model, x, rng).loss).ok
    assert not is_the_elbo(lambda model, x, rng: elbo(model, x, rng, beta=1.001).loss).ok
    assert is_the_kl(closed_kl).ok
    assert not is_the_kl(lambda mean, logvar: closed_kl(mean, logvar) * 1.0001).ok
    assert exact_elbo() < len(X[0].reshape(-1)) * np.log(2) * 2  # nats of four pixels
    assert over_the_noise(lambda eps: eps**4) == pytest.approx(3, rel=1e-12)


def test_the_nursery_trains_what_the_library_trains():
    train, test = sprites()
    assert train.shape == (2000, 16, 16, 1)
    assert len(test) == TEST
    assert TEST % BATCH == 0
    assert 5 < train.mean() < 20  # a small thing on black
    assert is_the_elbo(loss_with()).ok


def test_the_table_names_all_and_fits_a_terminal(capsys):
    assert main(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.split() and line.split()[0] in ZOO] == list(ZOO)
    assert max(map(len, lines)) <= 100


@every
def test_a_specimen_is_shown(specimen, capsys):
    assert main(["zoo", specimen.name]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert max(map(len, out.splitlines())) <= 100
    assert "def bug(" in out
    assert " | def fix(" in out
    bug, fix = (out[out.index(part) :] for part in ("\n  bug: ", "\n  fix: "))
    assert "caught" in bug[: bug.index("\n  fix: ")]
    assert fix.rstrip().endswith("passes")


def test_a_specimen_is_let_loose(capsys):
    assert main(["zoo", "sample-cuts-the-graph", "--train"]) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("active latents")]
    assert line.split()[2:] == ["0", "6"]
    assert " ".join(out.split()).endswith("mean image.")
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["kl-without-hal"], "did you mean kl-without-half?"),
        (["zebra"], "`minivae zoo` lists them"),
        (["--train"], "minivae zoo NAME --train"),
    ],
)
def test_what_is_not_there_is_one_sentence(arguments, sentence, capsys):
    assert main(["zoo", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert sentence in err
    assert err.count("\n") == 1


def test_a_check_that_sees_nothing_exits_with_2(capsys, monkeypatch):
    blind = type("Blind", (ZOO["reversed-kl"],), {"check": staticmethod(lambda f: Finding(0.0, 0.0, "nothing"))})
    monkeypatch.setattr(proof, "ZOO", {"reversed-kl": blind})
    assert main(["zoo", "reversed-kl"]) == 2
    assert "does not tell the bug from the fix" in capsys.readouterr().err
