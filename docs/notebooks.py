"""The demos as notebooks that run alone: Sphinx-Gallery's cells, and before them what a script finds beside it and on its command line."""

import json
import re
from pathlib import Path
from typing import Any

START = "what a script finds"  # marks the cells that are put before Sphinx-Gallery's
SIZE = """\
# "--tiny" takes seconds, nothing takes minutes, "--full" is the real thing; pip install "minivae[demos]" has been done
import sys

sys.argv = ["{name}.py", "--out", "figures"]
"""


def needs(script: Path) -> list[Path]:
    """The modules beside a script that it imports, and the script itself if it starts itself again, in a process of its own."""
    found: list[Path] = []

    def add(file: Path) -> None:
        text = file.read_text("utf-8")
        for name in re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE):
            other = file.with_name(f"{name}.py")
            if other.exists() and other not in found:
                found.append(other)
                add(other)
        if file == script and "sys.argv[0]" in text:
            found.append(file)

    add(script)
    return found


def complete(notebook: dict[str, Any], script: Path) -> dict[str, Any]:
    """The notebook of a script, with the cells that it needs before its own; those of an earlier time give way."""
    sources = [SIZE.format(name=script.stem)]
    sources += [f"%%writefile {file.name}\n{file.read_text('utf-8')}" for file in needs(script)]
    start = [
        {"cell_type": "code", "execution_count": None, "metadata": {"minivae": START}, "outputs": [], "source": source.splitlines(True)}
        for source in sources
    ]
    own = [cell for cell in notebook["cells"] if cell["metadata"].get("minivae") != START]
    return notebook | {"cells": own[:1] + start + own[1:]}  # the title stays on top


def complete_file(file: Path, script: Path) -> None:
    file.write_text(json.dumps(complete(json.loads(file.read_text("utf-8")), script), indent=1), "utf-8")
