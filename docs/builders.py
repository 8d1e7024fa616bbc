"""What the pages need beyond Sphinx: mathematics that browsers render without a script, and text made by running the library."""

import io
import re
from contextlib import redirect_stdout
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FUNCTION = re.compile(r"(<mi>(?:log|tanh|sin|cos|max|min|diag)</mi>)(?!<mo[^>]*>&#x00028;|</)")


def mathml(latex: str, display: str) -> str:
    """The spaces of TeX where browsers have others: around the name of a function, a derivative, ~, and beside the bars of |x|."""
    markup = re.sub("<mo>(max|min|diag)</mo>", r"<mi>\1</mi>", convert(latex, display=display))
    markup = FUNCTION.sub(r'\1<mspace width="0.17em"/>', markup)
    markup = markup.replace("<mo>&#x02202;</mo>", '<mi mathvariant="normal">&#x02202;</mi>')
    markup = re.sub(r"<mo[^>]*>&#x0007C;</mo>", '<mo lspace="0em" rspace="0em" stretchy="false">&#x0007C;</mo>', markup)
    return markup.replace("<mi>&#x0007E;</mi>", '<mo lspace="0.28em" rspace="0.28em">&#x0223C;</mo>')


def inline_math(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def block_math(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="equation">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


class Executed(SphinxDirective):
    """Runs its content as Python when the page is built; what that prints becomes `text` (the default), `html` or `myst` of the page."""

    has_content = True
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # the library may have changed, though the page has not
        kind, printed = (self.arguments or ["text"])[0], io.StringIO()
        with redirect_stdout(printed):
            exec(compile("\n".join(self.content), self.get_source_info()[0], "exec"), {})
        if kind == "myst":
            return self.parse_text_to_nodes(printed.getvalue(), allow_section_headings=True)
        if kind == "html":
            return [nodes.raw("", printed.getvalue(), format="html")]
        return [nodes.literal_block(printed.getvalue(), printed.getvalue(), language="text")]


def as_written(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings lay their equations out with spaces: they are shown as they stand."""
    if lines and any(lines):
        lines[:] = [".. code-block:: text", "   :class: docstring", "", *("   " + line for line in lines), ""]


def without_blank_end(app: Sphinx, doctree: nodes.document) -> None:
    """An excerpt that ends before a def ends with the blank lines before it."""
    for block in doctree.findall(nodes.literal_block):
        block.rawsource = block.astext().rstrip()
        block[:] = [nodes.Text(block.rawsource)]


def plain(app: Sphinx, doctree: nodes.document) -> None:
    """The code of a demo's page says that it is Python; blocks that say nothing are none."""
    if app.env.docname.startswith("demos/"):
        for block in doctree.findall(nodes.literal_block):
            block.attributes.setdefault("language", "none")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.add_directive("executed", Executed)
    app.connect("autodoc-process-docstring", as_written)
    app.connect("doctree-read", without_blank_end)
    app.connect("doctree-read", plain)
    return {"parallel_read_safe": False}
