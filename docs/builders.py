"""What the pages need beyond Sphinx: mathematics that browsers render without a script, and text made by running the library."""

import io
from contextlib import redirect_stdout
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def inline_math(writer: Any, node: nodes.math) -> None:
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block_math(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="equation">{convert(node.astext(), display="block")}</div>')
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
        block = nodes.literal_block(printed.getvalue(), printed.getvalue().rstrip())
        block["language"] = "text"
        return [block]


def as_written(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings lay their equations out with spaces: they are shown as they stand."""
    if lines and any(lines):
        lines[:] = [".. code-block:: text", "   :class: docstring", "", *("   " + line for line in lines), ""]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.add_directive("executed", Executed)
    app.connect("autodoc-process-docstring", as_written)
    return {"parallel_read_safe": False}
