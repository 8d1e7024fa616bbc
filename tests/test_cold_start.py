"""Kernels are compiled once: a second run of the main job compiles nothing."""

import os
import subprocess
import sys

import numpy as np
import pytest

COUNT = """
import sys
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    from minivae.cli import main
    code = main(sys.argv[1:])
print(code, sum(e.is_start for _, e in compiled.buffer))
"""


@pytest.mark.parametrize("arch", [["--hidden", "8"], ["--arch", "conv", "--channels", "4", "--hidden", "8"]], ids=["dense", "conv"])
def test_second_run_compiles_nothing(tmp_path, arch):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8))
    counts = []
    for name in ("first", "second"):
        command = [sys.executable, "-c", COUNT, "train", tmp_path / "images.npy", "--epochs", "1", "--out", tmp_path / name, *arch]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        code, compiled = done.stdout.splitlines()[-1].split()
        assert code == "0"
        counts.append(int(compiled))
    assert counts[1] == 0


COLD = """
import json, pathlib, sys
from minivae.cli import main
from minivae.kernels.cpu import jit
assert main(sys.argv[1:]) == 0
line = json.loads((pathlib.Path(sys.argv[-1]) / "metrics.jsonl").read_text().splitlines()[0])
print(line["seconds"], jit.compiling.seconds, jit.compiling.kernels)
"""


def test_a_first_run_says_that_it_compiles_and_does_not_count_it(tmp_path):
    """60 images take milliseconds; compiling takes seconds."""
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8))
    command = [sys.executable, "-c", COLD, "train", tmp_path / "images.npy", "--epochs", "1", "--hidden", "8", "--out", tmp_path / "run"]
    env = os.environ | {"MINIVAE_CACHE": str(tmp_path / "cache")}
    first = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=True).stdout.splitlines()
    assert first[0] == "compiling the kernels for this processor: once, and for some 10 to 30 seconds"
    epoch, compiling, kernels = map(float, first[-1].split())
    assert compiling > 1
    assert kernels > 5
    assert epoch < compiling / 4
    command[-1] = tmp_path / "again"
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=True).stdout
    assert "compiling" not in again
    assert again.split()[-1] == "0"


def test_the_front_door_leaves_numba_alone():
    loaded = "import sys, minivae; print('numba' in sys.modules); minivae.Stream(0).normal((3,)); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True"]
