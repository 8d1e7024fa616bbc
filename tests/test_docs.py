"""The documentation says what is so: every program on its pages prints what stands under it, what the build makes is made, and every test
that a page names exists.

Printed numbers may be off by one unit of their last digit, which a machine that sums in another order may round the other way; those of the
README, at the end of 450 steps of training, by one in a hundred.  Words must be the same.
"""

import ast
import contextlib
import io
import math
import re
from pathlib import Path

import pytest

from minivae import Op

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
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
