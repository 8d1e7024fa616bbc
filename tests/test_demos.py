"""Every script in demos/ runs at its tiniest, checks its own claims and writes what it promises; and a claim that fails ends it."""

import re
import runpy
import sys
from pathlib import Path

import pytest

SHARED = {"stage"}
DEMOS = sorted(demo for demo in (Path(__file__).parents[1] / "demos").glob("*.py") if demo.stem not in SHARED)
MEASURES = {"peak"}  # scripts that measure, and claim nothing


def run(demo, out, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(demo), "--tiny", "--out", str(out)])
    monkeypatch.syspath_prepend(demo.parent)  # as Python does for a script
    runpy.run_path(str(demo), run_name="__main__")


@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.stem)
def test_a_demo_keeps_its_promises(demo, tmp_path, monkeypatch, capsys):
    run(demo, tmp_path, monkeypatch)
    assert demo.stem in MEASURES or "holds: " in capsys.readouterr().out
    promised = set(re.findall(r'\bout / "([\w-]+\.(?:png|svg|gif))"', demo.read_text("utf-8")))
    assert promised, "no picture is written into --out"
    assert {file.name for file in tmp_path.iterdir()} >= promised
    assert all(file.stat().st_size > 1000 for file in tmp_path.glob("*.png"))


def test_there_are_demos():
    assert DEMOS


def test_a_claim_that_fails_ends_the_estimator_lab(tmp_path, monkeypatch):
    """Sticking the landing for two samples, passed off as doubly reparameterized."""
    from minivae.evaluate import estimators

    monkeypatch.setattr(estimators, "doubly_reparameterized", estimators.sticking_the_landing)
    with pytest.raises(SystemExit, match="does not hold: for two samples the others are"):
        run(Path(__file__).parents[1] / "demos/estimator_lab.py", tmp_path, monkeypatch)
