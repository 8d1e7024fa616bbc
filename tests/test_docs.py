"""The documentation says what is so: every program on its pages prints what stands under it, what the build makes is made, and every test
that a page names exists.

Printed numbers may be off by one unit of their last digit, which a machine that sums in another order may round the other way; those of the
README, at the end of 450 steps of training, by one in a hundred.  Words must be the same.
"""

import ast
import contextlib
import importlib
import io
import math
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from minivae import Op
from minivae.errors import UsageError

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
PAGES = [*sorted((REPOSITORY / "docs").glob("*.md")), *sorted((REPOSITORY / "docs" / "bring-your-own").glob("*.md"))]
EXECUTED = re.compile(r"^```{executed}[^\n]*\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
PROGRAM = re.compile(r"^```python\n(.*?)^```\n(?:(?:\s|prints)*^```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?")


def named(page):
    return getattr(page, "name", None)


def difference(expected, printed, relative=0.0):
    """A sentence if the two texts differ by more than their numbers may, else nothing."""
    words = [" ".join(NUMBER.sub("#", text).split()).replace("[ ", "[") for text in (expected, printed)]
    if words[0] != words[1]:
        return f"the page says\n{expected}but the program prints\n{printed}"
    for a, b in zip(NUMBER.findall(expected), NUMBER.findall(printed), strict=True):
        mantissa, _, exponent = a.partition("e")
        last_digit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        whole = not exponent and "." not in a  # a count, a shape, a year
        allowed = 0 if whole else 1.01 * last_digit + relative * abs(float(a))
        if not math.isclose(float(a), float(b), rel_tol=0, abs_tol=allowed):
            return f"the page says {a} where the program prints {b}:\n{printed}"
    return ""


def programs(page):
    """(line, source, expected or None) of every block of Python."""
    text = page.read_text("utf-8")
    return [(text[: match.start()].count("\n") + 2, match[1], match[2]) for match in PROGRAM.finditer(text)]


def check(page, relative=0.0):
    """Run the programs of a page one after the other, in one namespace."""
    names = {"__name__": "page"}
    for line, source, expected in programs(page):
        tree = ast.increment_lineno(ast.parse(source), line - 1)  # a traceback then shows the page's line
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, str(page), "exec"), names)
        wrong = difference(expected or "", printed.getvalue(), relative)
        assert not wrong, f"{page.name}, line {line}: {wrong}"


@pytest.mark.parametrize("page", [page for page in PAGES if programs(page)], ids=named)
def test_programs_print_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Op, "registry", dict(Op.registry))  # a page may make an op of its own
    check(page)


@pytest.mark.parametrize("page", [page for page in PAGES if EXECUTED.search(page.read_text("utf-8"))], ids=named)
def test_what_is_made_when_the_pages_are_built(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(page.parent)
    monkeypatch.setattr(Op, "registry", dict(Op.registry))
    for source in EXECUTED.findall(page.read_text("utf-8")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, str(page), "exec"), {})
        assert printed.getvalue().strip(), f"{page.name}: nothing is made by\n{source}"


@pytest.mark.slow
def test_the_readme_prints_what_it_says():
    check(README, relative=0.01)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_test_that_a_page_names_exists(page):
    for path, function in re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", page.read_text("utf-8")):
        place = REPOSITORY / path
        assert place.exists(), f"{page.name} names {path}, which is not there"
        assert not function or f"def {function}(" in place.read_text("utf-8"), f"{page.name} names {path}::{function}, which is not there"


@pytest.mark.parametrize(
    ("expected", "printed", "fine"),
    [
        ("loss 1.25\n", "loss 1.26\n", True),
        ("loss 1.25\n", "loss 1.27\n", False),
        ("off by 4e-11\n", "off by 5e-11\n", True),
        ("off by 4e-11\n", "off by 4e-10\n", False),
        ("(50, 2)\n", "(50, 3)\n", False),
        ("zero 0.0\n", "zero -0.0\n", True),
        ("moves\n", "zero\n", False),
        ("1.0 2.0\n", "1.0\n", False),
        ("[1. 2.]\n", "[1. inf]\n", False),
        ("", "anything\n", False),
    ],
)
def test_the_judge_of_printed_text(expected, printed, fine):
    assert (difference(expected, printed) == "") == fine


def test_a_planted_lie_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nx = 1.5\nprint(x)\n```\n\n```text\n1.7\n```\n")
    with pytest.raises(AssertionError, match=r"page.md, line 4: the page says 1.7 where the program prints 1.5"):
        check(page)
    page.write_text(page.read_text().replace("1.7", "1.5"))
    check(page)


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """docs/gallery.py, with folders of its own."""
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    module = importlib.import_module("gallery")
    for name in ("HERE", "DEMOS", "FIGURES"):
        monkeypatch.setattr(module, name, tmp_path / name)
        (tmp_path / name).mkdir()
    return module


def scripts(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)


def test_the_demos_have_their_places(gallery):
    scripts(gallery.DEMOS, zebra="", beta_sweep="", stage="", peak="", overlap="", ant="")
    in_order = sorted((file.name for file in gallery.DEMOS.iterdir() if file.stem != "stage"), key=gallery.place)
    assert in_order == ["overlap.py", "beta_sweep.py", "peak.py", "ant.py", "zebra.py"]
    assert list(gallery.sections()) == ["What a VAE is", "Disentanglement", "Kernels", "More"]
    text = gallery.index()
    places = [text.index(f":doc:`{name}`") for name in ("overlap", "beta_sweep", "peak", "ant", "zebra")]
    assert places == sorted(places)
    assert text.count("toctree") == 4
    assert "stage" not in text


def test_every_demo_has_one_page(gallery, monkeypatch):
    monkeypatch.setattr(gallery, "DEMOS", REPOSITORY / "demos")
    assert sorted(name for names in gallery.sections().values() for name in names) == sorted(
        file.stem for file in gallery.DEMOS.glob("*.py") if file.stem not in gallery.SHARED
    )


def test_each_cell_shows_the_figures_that_it_wrote(gallery):
    folder, pages = gallery.FIGURES / "walks", gallery.HERE / "demos"
    folder.mkdir()
    pages.mkdir()
    taken = iter(str(pages / f"walks_{i:03}.png") for i in range(1, 9))
    script = {"src_file": "walks.py", "image_path_iterator": SimpleNamespace(next=lambda: next(taken))}

    def write(name, inches, dpi, age):
        Figure(figsize=(inches, 1)).savefig(folder / name, dpi=dpi)
        os.utime(folder / name, ns=(0, 10**9 - age))

    write("z.png", 3, 200, age=2)
    write("a.png", 5, 100, age=1)
    (folder / "weights.npz").write_bytes(b"")
    shown = gallery.figures(None, script, {})
    assert re.findall(r"image:: (\S+)|:alt: (\S+)|:width: (\S+)", shown) == [
        ("/demos/walks_001.png", "", ""),
        ("", "z", ""),
        ("", "", "288px"),
        ("/demos/walks_002.png", "", ""),
        ("", "a", ""),
        ("", "", "480px"),
    ]
    assert (pages / "walks_002.png").stat().st_size > 100
    assert gallery.figures(None, script, {}) == ""
    write("a.png", 2, 100, age=0)  # drawn again by a later cell
    assert "walks_003.png" in gallery.figures(None, script, {})


def test_the_size_of_the_demos(gallery, monkeypatch):
    scripts(gallery.DEMOS, walks="asked = stage.options(__doc__)", peak='add_argument("--tiny")')
    stale = gallery.FIGURES / "walks" / "old.png"
    stale.parent.mkdir()
    stale.write_bytes(b"")

    def asked(name):
        return gallery.arguments({}, {"src_file": str(gallery.DEMOS / f"{name}.py")})

    out = ["--out", str(gallery.FIGURES / "walks")]
    monkeypatch.delenv("MINIVAE_DEMOS", raising=False)
    assert asked("walks") == ["--tiny", *out]
    assert not stale.exists()
    monkeypatch.setenv("MINIVAE_DEMOS", "usual")
    assert asked("walks") == out
    monkeypatch.setenv("MINIVAE_DEMOS", "full")
    assert asked("walks") == ["--full", *out]
    assert asked("peak")[:1] == ["--out"]  # it has no such size
    monkeypatch.setenv("MINIVAE_DEMOS", "huge")
    with pytest.raises(UsageError, match="MINIVAE_DEMOS is 'huge'; choose one of tiny, usual, full"):
        asked("walks")


def test_pages_without_downloads_and_folders_of_this_machine(gallery):
    page = f"""
.. only:: html

    .. note:: :ref:`sphx_glr_download_x`

.. rst-class:: sphx-glr-example-title

Title
=====

wrote {gallery.FIGURES}/walks/a.png

.. _sphx_glr_download_x:

  :download:`x <x>`
"""
    source, other = [page], [page]
    gallery.tidy(None, "demos/walks", source)
    gallery.tidy(None, "estimators", other)
    assert " ".join(source[0].split()) == ".. rst-class:: sphx-glr-example-title Title ===== wrote figures/a.png"
    assert other == [page]


def test_the_map_of_the_rooms(monkeypatch):
    """Every arrow runs down; those that a longer way makes superfluous are left out, and no way is lost; a room has one box."""
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    rooms = importlib.import_module("rooms")
    planted = {"top": {"middle", "ground"}, "middle": {"ground"}, "ground": set(), "alone": {"ground"}}
    assert rooms.shortest(planted) == {"top": {"middle"}, "middle": {"ground"}, "ground": set(), "alone": {"ground"}}
    graph = rooms.rooms()
    assert {"engine", "kernels"} <= graph["ops"]  # as `ops/dense.py` says
    drawn, level = rooms.shortest(graph), rooms.levels(rooms.shortest(graph))
    assert all(level[to] < level[room] for room, below in drawn.items() for to in below)
    assert all(rooms.reachable(drawn, room) == rooms.reachable(graph, room) for room in graph)
    rows, ways = rooms.layout(drawn)
    assert sorted(place for row in rows for place in row if ">" not in place) == sorted(graph)
    assert {(way[0], way[-1]) for way in ways} == {(room, to) for room, below in drawn.items() for to in below}
