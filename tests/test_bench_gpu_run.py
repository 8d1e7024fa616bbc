"""benchmarks/gpu.py: sections that fail, hang, die or are interrupted cost themselves alone, and what was found is on disk."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minivae.backend import gpu
from minivae.errors import UsageError

from .gpu.host import needs_compiler

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
PLANTED = """
import os, signal, subprocess, sys, time

def good(options):
    print("words that are no row")
    yield {"name": "a GPU"}
    yield {"what": "relu", "holds": True}

def wrong(options):
    yield {"what": "tanh", "precision": "fp32", "holds": False, "why": "off by 1"}

def raises(options):
    yield {"a": 1}
    raise ValueError("no free lunch")

def hangs(options):
    yield {"a": 2}
    left_behind = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield {"pid": left_behind.pid}
    time.sleep(600)

def deaf(options):
    import faulthandler
    faulthandler.cancel_dump_traceback_later()
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    yield {"a": 3}
    time.sleep(600)

def dies(options):
    yield {"a": 4}
    os.kill(os.getpid(), signal.SIGSEGV)

def waits(options):
    yield {"pid": os.getpid()}
    time.sleep(600)
"""


@pytest.fixture
def module(monkeypatch):
    """Import a module of benchmarks/."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def run(module, monkeypatch, tmp_path, capsys):
    """run(places, limit=...): gpu.py with these sections.  -> exit code, stdout, stderr, gpu.json, the lines of rows.jsonl"""
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    driver = module("gpu")

    def benchmark(*places, limit=20.0, need=0.1, options=()):
        sections = [driver.Section(i, place, f"planted:{place}", need, limit) for i, place in enumerate(places, 1)]
        monkeypatch.setattr(driver, "SECTIONS", sections)
        code = driver.main(["--out", str(tmp_path / "out"), *options])
        found = json.loads((tmp_path / "out" / "gpu.json").read_text())["sections"]
        rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
        return code, *capsys.readouterr(), found, rows

    return benchmark


def gone(pid):
    """Whether a process has ended (a zombie has)."""
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


def test_who_fails_costs_himself_alone(run):
    code, out, _, found, rows = run("good", "raises", "dies", "wrong", limit=60.0)
    assert code == 1
    assert [found[n]["why"] for n in "1234"] == ["", "ValueError: no free lunch", "killed by SIGSEGV", ""]
    assert [row.get("a") for row in rows] == [None, None, 1, 4, None]
    assert [row["section"] for row in rows] == ["good", "good", "raises", "dies", "wrong"]
    assert any("in raises" in line for line in found["2"]["said"])  # where
    assert any(line.startswith("Fatal Python error: Segmentation fault") for line in found["3"]["said"])
    assert "WRONG: raises: ValueError: no free lunch" in out
    assert "WRONG: wrong: tanh fp32: off by 1" in out
    assert found["1"]["said"] == []


def test_all_is_well(run, tmp_path):
    code, out, err, found, _ = run("good", limit=60.0)
    assert (code, err) == (0, "")
    assert found["1"]["rows"] == [{"name": "a GPU"}, {"what": "relu", "holds": True}]
    assert "words that are no row" in (tmp_path / "out" / "log.txt").read_text()
    assert "1 good: done" in out
    assert "1 good: done" in (tmp_path / "out" / "summary.txt").read_text()


def test_who_hangs_says_where_and_is_stopped_with_all_that_it_started(run):
    start = time.monotonic()
    code, _, _, found, rows = run("good", "hangs", "deaf", "wrong", limit=8.0)
    assert code == 1
    assert time.monotonic() - start < 60
    assert [found[n]["why"] for n in "1234"] == ["", "not done in 8 seconds", "not done in 8 seconds", ""]
    assert any("in hangs" in line for line in found["2"]["said"])
    assert [row.get("a") for row in rows] == [None, None, 2, None, 3, None]
    assert gone(rows[3]["pid"])


def test_what_was_found_is_there_before_the_section_ends_and_after_an_interrupt(tmp_path):
    (tmp_path / "planted.py").write_text(PLANTED)
    code = (
        "import sys; sys.argv = ['gpu.py', '--out', 'out']; import gpu\n"
        "gpu.SECTIONS[:] = [gpu.Section(1, 'good', 'planted:good', 1, 60), gpu.Section(2, 'waits', 'planted:waits', 1, 60)]\n"
        "sys.exit(gpu.main(['--out', 'out', '--sections', '1', '2']))"
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{BENCHMARKS}"}
        process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        rows, end = [], time.monotonic() + 60
        while len(rows) < 3 and time.monotonic() < end:
            time.sleep(0.05)
            path = tmp_path / "out" / "rows.jsonl"
            rows = [line for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []
        assert process.poll() is None
        process.send_signal(number)
        assert "interrupted; what was found so far is in out" in process.communicate(timeout=30)[1]
        assert process.returncode == 130
        found = json.loads((tmp_path / "out" / "gpu.json").read_text())["sections"]
        assert found["2"]["why"] == "interrupted"
        assert len(found["1"]["rows"]) == 2
        assert gone(json.loads(rows[2])["pid"])
        (tmp_path / "out" / "rows.jsonl").unlink()


def test_time_that_is_over_leaves_the_last_sections_out(run):
    code, out, _, found, _ = run("good", "good", "good", limit=60.0, need=40.0, options=["--seconds", "30"])
    assert code == 0
    assert found["1"]["why"] == ""
    assert found["3"]["why"] == "left out: the 30 seconds are over" or found["3"]["limit"] < 31
    assert "WRONG" not in out


def test_a_section_leaves_what_those_behind_it_need(module):
    driver = module("gpu")
    first, *later = driver.SECTIONS
    assert driver.seconds_for(first, later, 1000.0, 1.0) == first.limit
    # 240 seconds: the first gets what the others do not need
    assert driver.seconds_for(first, later, 240.0, 1.0) == 240 - sum(section.need for section in later)
    assert driver.seconds_for(first, later, 100.0, 1.0) == first.need  # by worth: the last will be left out
    assert driver.seconds_for(first, later, first.need / 2 - 1, 1.0) == 0
    assert driver.seconds_for(first, later, 1000.0, 2.0) == 2 * first.limit or 1000 - 2 * sum(s.need for s in later)
    # no more than eight minutes, whatever happens
    assert driver.main.__defaults__ == (None,)
    assert sum(section.need for section in driver.SECTIONS) <= 240


@pytest.mark.parametrize("arguments", [["--seconds", "nan"], ["--seconds", "0"], ["--workloads", "large"], ["--sections", "8"]])
def test_arguments_are_checked(module, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        module("gpu").main(arguments)
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_without_a_gpu_it_is_one_sentence(module, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    try:
        gpu()
    except UsageError:
        assert module("gpu").main(["--out", str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("gpu.py: no figures without a GPU: no GPU")
        assert said.count("\n") == 1
    else:
        pytest.skip("there is a GPU")


def test_the_parent_and_the_workloads_agree(module):
    assert set(module("gpu").FIVE) == set(module("workloads").WORKLOADS) - {"tiny"}
    assert module("gpu").FIVE == module("gpu_sections").FIVE
    assert module("gpu").FIVE[:2] == ["conv", "burgess"]


@needs_compiler
def test_a_dry_run_of_a_bare_checkout(tmp_path):
    """The tracked files alone, from another folder, nothing installed of it: every section, on the stand-in."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if name.startswith(("benchmarks/", "minivae/", "tests/", "pyproject")) and (ROOT / name).is_file():
            (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "checkout" / name).write_bytes((ROOT / name).read_bytes())
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(tmp_path / "checkout" / "benchmarks" / "gpu.py"), "--out", "out", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{(tmp_path / 'out' / 'log.txt').read_text()}"
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())["sections"]
    assert [section["why"] for section in found.values()] == [""] * 7
    rows = {section["name"]: section["rows"] for section in found.values()}
    versions = next(row["versions"] for row in rows["device"] if "versions" in row)
    assert versions["minivae"] == str(tmp_path / "checkout" / "minivae")
    assert sum("compiled" in row for row in rows["device"]) > 10
    assert [row["what"] for row in rows["training"]][:2] == ["dense, eager", "dense, graph"]
    assert sum("test" in row for row in rows["tests"]) == 5
    assert {row["row"]["contestant"] for row in rows["rivals"]} == {"minivae-graph", "minivae-eager", "minivae-cpu"}
    assert {"node", "kernel", "nodes", "epoch_microseconds_a_step"} <= {key for row in rows["kernels"] for key in row}
    assert [(row["what"], row["faults"]) for row in rows["sanitizer"]] == [
        (t, 0) for t in ("memcheck", "racecheck", "initcheck", "synccheck")
    ]
    assert len(rows["profile"]) == 5
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == sum(map(len, rows.values()))
