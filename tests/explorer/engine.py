"""The page's programs without a page: their modules, as they are shipped, run by node."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from minivae.explorer.page import bundle

NODE = shutil.which("node")


def run(modules: list[str], script: str, tmp_path, **inputs: Any) -> Any:
    """What `script` leaves in `result`, with the modules' names and the inputs at hand."""
    if NODE is None:
        pytest.skip("node is not installed; with it the page's programs are tested without a browser")
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    program = "\n".join(
        [
            'import { readFileSync, writeFileSync } from "node:fs";',
            *map(bundle, modules),
            'const input = JSON.parse(readFileSync("inputs.json", "utf8"));',
            f"let result;\n{script}",
            'writeFileSync("result.json", JSON.stringify(result));',
        ]
    )
    (tmp_path / "program.mjs").write_text(program)
    done = subprocess.run([NODE, "program.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    print(done.stdout, end="")
    return json.loads((tmp_path / "result.json").read_text())
