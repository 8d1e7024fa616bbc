"""Bugs: every check fails on the bug and passes on the fix, every bug does the harm that is claimed, and both can be read."""

import inspect
from dataclasses import replace

import numpy as np
import pytest

from minivae import elbo
from minivae.bugs import BUGS, Finding
from minivae.bugs.judges import X, exact_elbo, is_the_elbo, is_the_kl, over_the_noise
from minivae.bugs.tiny import BATCH, TEST, closed_kl, loss_with, sprites
from minivae.cli import main, proof

every = pytest.mark.parametrize("mistake", BUGS.values(), ids=list(BUGS))


@every
def test_the_check_fails_on_the_bug_and_passes_on_the_fix(mistake):
    bug, fix = mistake.check(mistake.bug), mistake.check(mistake.fix)
    assert not bug.ok, bug
    assert fix.ok, fix
    assert not bug.size <= 1000 * bug.allowed or bug.size > 10 * bug.allowed > 0.1, bug  # by far, or as far as chance lets a check see


@every
def test_the_bug_does_harm(mistake):
    with np.errstate(all="ignore"):
        bug, fix = mistake.effect()
    assert bug.keys() == fix.keys()
    figure = next(iter(bug))
    assert np.isfinite(fix[figure])
    assert bug[figure] >= fix[figure] + mistake.least, (bug, fix)


@every
def test_bug_and_fix_fit_beside_each_other(mistake):
    for function in (mistake.bug, mistake.fix):
        assert len(inspect.getsource(function).splitlines()) <= 6
    assert inspect.signature(mistake.bug) == inspect.signature(mistake.fix)


def test_there_are_no_two_of_a_name():
    assert len(BUGS) == 21
    assert all(name == mistake.name for name, mistake in BUGS.items())


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
    assert main(["bugs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.split() and line.split()[0] in BUGS] == list(BUGS)
    assert max(map(len, lines)) <= 100


@every
def test_a_specimen_is_shown(mistake, capsys):
    assert main(["bugs", mistake.name]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert max(map(len, out.splitlines())) <= 100
    assert "def bug(" in out
    assert " | def fix(" in out
    bug, fix = (out[out.index(part) :] for part in ("\n  bug: ", "\n  fix: "))
    assert "caught" in bug[: bug.index("\n  fix: ")]
    assert fix.rstrip().endswith("passes")


def test_a_specimen_is_let_loose(capsys):
    assert main(["bugs", "sample-cuts-the-graph", "--train"]) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("active latents")]
    assert line.split()[2:] == ["0", "6"]
    assert " ".join(out.split()).endswith("mean image.")
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["kl-without-hal"], "did you mean kl-without-half?"),
        (["zebra"], "`minivae bugs` lists them"),
        (["--train"], "minivae bugs NAME --train"),
    ],
)
def test_what_is_not_there_is_one_sentence(arguments, sentence, capsys):
    assert main(["bugs", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert sentence in err
    assert err.count("\n") == 1


def test_a_check_that_sees_nothing_exits_with_2(capsys, monkeypatch):
    blind = type("Blind", (BUGS["reversed-kl"],), {"check": staticmethod(lambda f: Finding(0.0, 0.0, "nothing"))})
    monkeypatch.setattr(proof, "BUGS", {"reversed-kl": blind})
    assert main(["bugs", "reversed-kl"]) == 2
    assert "does not tell the bug from the fix" in capsys.readouterr().err
