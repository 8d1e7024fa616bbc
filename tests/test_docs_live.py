"""What the built documentation lets a reader use: its front page carries a latent space, its demos are notebooks that run alone."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from .explorer.chromium import Chromium

DOCS = Path(__file__).parents[1] / "docs"
DEMOS = DOCS.with_name("demos")


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module


def test_the_front_page_carries_a_latent_space(module, monkeypatch, tmp_path):
    live = module("live")
    monkeypatch.setattr(live, "live", lambda whole=live.live: whole(epochs=1))
    live.write(SimpleNamespace(builder=SimpleNamespace(format="html"), outdir=str(tmp_path)), None)
    page = tmp_path / live.NAME
    assert f'src="{live.NAME}"' in (DOCS / "index.md").read_text("utf-8")
    assert not (DOCS / live.NAME).with_suffix(".md").exists()  # a page of that name would be written over
    assert page.stat().st_size < 2e6
    (tmp_path / "index.html").write_text(f'<html data-ready="yes"><iframe src="{live.NAME}" width="700" height="700"></iframe></html>')
    with Chromium(760, 800) as browser:
        browser.open(page.as_uri())
        assert browser.run("Object.keys(window.minivae.page.data.classes).length") == 10
        assert browser.run("window.minivae.model.latent") == 2
        browser.open((tmp_path / "index.html").as_uri())
        browser.until("document.querySelector('iframe').contentDocument === null")  # it has loaded; a file may not look into another
        assert browser.complaints() == []


def notebook(name):
    """As Sphinx-Gallery makes it of a script."""
    from sphinx_gallery.notebook import jupyter_notebook
    from sphinx_gallery.py_source_parser import split_code_and_text_blocks

    _, blocks = split_code_and_text_blocks(str(DEMOS / f"{name}.py"))
    options = {"first_notebook_cell": None, "last_notebook_cell": None, "notebook_images": False, "pypandoc": False}
    return json.loads(json.dumps(jupyter_notebook(blocks, options | {"promote_jupyter_magic": False}, str(DEMOS))))


def test_a_notebook_brings_what_its_script_finds_beside_it(module):
    notebooks = module("notebooks")
    assert [file.name for file in notebooks.needs(DEMOS / "overlap.py")] == ["stage.py"]
    assert sorted(file.name for file in notebooks.needs(DEMOS / "matmul_steps.py")) == ["matmul_steps.py", "peak.py", "stage.py"]
    plain = notebook("matmul_steps")
    whole = notebooks.complete(plain, DEMOS / "matmul_steps.py")
    assert notebooks.complete(whole, DEMOS / "matmul_steps.py") == whole  # a second build adds nothing
    assert whole["cells"][0] == plain["cells"][0]
    assert [cell for cell in whole["cells"] if cell in plain["cells"]] == plain["cells"]


def test_a_notebook_runs_alone(module, tmp_path):
    """In a folder where nothing else is, from the first cell to the last, and shows its figures."""
    import nbformat
    from nbclient import NotebookClient

    whole = module("notebooks").complete(notebook("overlap"), DEMOS / "overlap.py")
    size = next(cell for cell in whole["cells"] if "sys.argv" in "".join(cell["source"]))
    size["source"] = "".join(size["source"]).replace('"--out"', '"--tiny", "--out"')
    ran = nbformat.reads(json.dumps(whole), as_version=4)
    nbformat.validate(ran)
    NotebookClient(ran, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in ran.cells if cell.cell_type == "code" for output in cell.outputs]
    assert "holds: " in "".join(output.get("text", "") for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert {file.name for file in tmp_path.iterdir()} == {"stage.py", "figures"}
