"""The page as one text: style, programs and what a run has to show, all inside.

The programs are modules in web/, which import each other as a browser's do; here they become one, in the order of their imports.  The page
forbids itself every connection (its Content-Security-Policy), and any program but this one, so that no name in a run can become one.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..version import VERSION
from .payload import Look, data_of, run_of

WEB = Path(__file__).parent / "web"
IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class) )", re.MULTILINE)


def page(looks: Sequence[Look], live: bool = False) -> str:
    """HTML that shows one run, or several on the same data with a slider over them.

    live    whether the page asks the server that it came from for news of the run
    """
    program, style = bundle("main.js"), (WEB / "style.css").read_text("utf-8")
    names = ", ".join(look.name for look in looks)
    policy = (
        f"default-src 'none'; script-src '{digest(program)}'; style-src '{digest(style)}'; img-src data: blob:; "
        f"connect-src {chr(39)}{'self' if live else 'none'}{chr(39)}; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "title": html.escape(f"{names}: explorer"),
        "policy": html.escape(policy, quote=True),
        "style": style,
        "payload": json_of(payload(looks, live)),
        "program": program,
    }
    template = (WEB / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def payload(looks: Sequence[Look], live: bool = False) -> dict[str, Any]:
    """What the programs find on the page."""
    if not looks:
        raise UsageError("explorer: there is no run to show; name at least one")
    first = looks[0].data
    for look in looks[1:]:
        if look.data.name != first.name or look.data.image_shape != first.image_shape:
            raise UsageError(
                f"the data of {looks[0].name} are {first.name} {first.image_shape}, those of {look.name} are {look.data.name} "
                f"{look.data.image_shape}; one page shows runs on the same data"
            )
    runs = [run_of(look) for look in sorted(looks, key=weight)]
    return {"version": VERSION, "live": live, "data": data_of(looks[0]), "runs": runs}


def weight(look: Look) -> float:
    """The objective's weight of the KL, by which the runs of a sweep are ordered."""
    return float(look.objective.get("beta", look.objective.get("gamma", 1.0)))


def json_of(value: Any) -> str:
    """JSON that may stand in a script element: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def bundle(entry: str) -> str:
    """One program of a module and all that it imports: what is imported comes first."""
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        done[name] = ""
        text = (WEB / name).read_text("utf-8")
        for imported in IMPORT.findall(text):
            add(imported)
        del done[name]  # its place is behind what it imports
        done[name] = EXPORT.sub("", IMPORT.sub("", text)).strip("\n")

    add(entry)
    return "\n" + "\n\n".join(f"// --- {name}\n{text}" for name, text in done.items()) + "\n"
