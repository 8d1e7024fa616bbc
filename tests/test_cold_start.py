"""Kernels are compiled once: a second run of the main job compiles nothing."""

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
