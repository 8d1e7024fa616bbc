"""The demos as pages, by Sphinx-Gallery: each script is run cell by cell, and what a cell prints and draws stands below it.

The environment variable MINIVAE_DEMOS says at which size: tiny (the default), usual or full.  A claim that does not hold ends the build.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import notebooks
from PIL import Image

from minivae.errors import UsageError

HERE = Path(__file__).resolve().parent
DEMOS = HERE.parent / "demos"
FIGURES = HERE / "demos" / "figures"  # until they are moved beside the pages; a folder a script
SIZES = {"tiny": ["--tiny"], "usual": [], "full": ["--full"]}
SHARED = ("stage", "photos")  # modules of the scripts, no scripts
SECTIONS = {
    "What a VAE is": ("three_losses", "overlap", "gaps", "walks"),
    "The bound": ("exact_posterior", "surgery", "iwae_table", "estimator_lab", "priors"),
    "Conditional models": ("digits_on_demand", "missing_quadrants"),
    "Disentanglement": ("beta_sweep", "sprites_beta", "disentangled", "faces"),
    "What it is good for": ("anomaly", "restoration", "few_labels", "colour_digits", "colour_photos", "codebook"),
    "Compression": ("bits_back", "gray_bytes", "precisions", "jpeg_duel", "progressive"),
    "Rivals": ("gan_game", "rivals", "stacked", "ten_seeds", "pixels_diffusion"),
    "Kernels": ("peak", "matmul_steps", "conv_as_matmul"),
}


def sections() -> dict[str, list[str]]:
    """The scripts there are, in the order of their pages; those that no section names come last."""
    there = {file.stem for file in DEMOS.glob("*.py")}.difference(SHARED)
    found = {title: [name for name in names if name in there] for title, names in SECTIONS.items()}
    found["More"] = sorted(there.difference(*SECTIONS.values()))
    return {title: names for title, names in found.items() if names}


def place(file: str) -> int:
    """Of a script among the pages."""
    return [name for names in sections().values() for name in names].index(Path(file).stem)


def arguments(conf: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """What a script finds in sys.argv: its size, if it has several, and a folder of its own, emptied."""
    size, file = os.environ.get("MINIVAE_DEMOS", "tiny"), Path(script["src_file"])
    if size not in SIZES:
        raise UsageError(f"MINIVAE_DEMOS is {size!r}; choose one of {', '.join(SIZES)}")
    folder, text = FIGURES / file.stem, file.read_text("utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    flags = [flag for flag in SIZES[size] if flag in text or "stage.options" in text]
    return [*flags, "--out", str(folder)]


def figures(block: Any, script: dict[str, Any], conf: dict[str, Any]) -> str:
    """The pictures that a cell has written, moved beside the page: reST that shows them in their order, as many inches wide as they are."""
    folder, places = FIGURES / Path(script["src_file"]).stem, script["image_path_iterator"]
    new = [file for file in folder.glob("*") if file.suffix in (".png", ".gif")]
    text = ""
    for file in sorted(new, key=lambda file: file.stat().st_mtime_ns):
        target = Path(places.next()).with_suffix(file.suffix)
        with Image.open(file) as image:
            width = image.width * 96 / image.info.get("dpi", (150,))[0]  # CSS has 96 pixels an inch
        shutil.move(file, target)
        text += f"\n.. image:: /{target.relative_to(HERE).as_posix()}\n   :class: shot\n   :alt: {file.stem}\n   :width: {width:.0f}px\n\n"
    return text


def index() -> str:
    """reST: a heading a section, and below it the figure and the title of each page."""
    text = ""
    for title, names in sections().items():
        text += f"\n{title}\n{'-' * len(title)}\n\n.. container:: demos\n"
        for name in names:
            thumb = f"images/thumb/sphx_glr_{name}_thumb.png"
            text += f"\n   .. container:: demo\n\n      .. image:: {thumb}\n         :target: {name}.html\n         :alt:\n"
            text += f"\n      :doc:`{name}`\n"
        text += "\n.. toctree::\n   :hidden:\n\n" + "".join(f"   {name}\n" for name in names)
    return text


def tidy(app: Any, page: str, source: list[str]) -> None:
    """Sphinx-Gallery's pages with a link to the notebook instead of notes on downloads, and figures/ as the folder of figures."""
    text = source[0]
    if page == "demos/index":
        source[0] = text.partition(".. raw:: html")[0].replace(":orphan:", "") + index()
    elif page.startswith("demos/"):
        text = text[text.index("\n.. rst-class:: sphx-glr-example-title") :].partition("\n.. _sphx_glr_download_")[0]
        name = page.removeprefix("demos/")
        if (HERE / f"{page}.ipynb").exists():
            notebooks.complete_file(HERE / f"{page}.ipynb", DEMOS / f"{name}.py")
            text += f"\n:download:`This page as a notebook <{name}.ipynb>`\n"
        source[0] = text.replace(str(FIGURES / name), "figures")


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", tidy)
    return {"parallel_read_safe": False}
