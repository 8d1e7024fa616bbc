"""The page kept live beside a run: three answers to GET on 127.0.0.1, made from one run folder, and nothing else."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ..errors import MinivaeError, UsageError
from ..runs.saved import CHECKPOINT
from .page import json_of, page, payload
from .payload import Look, look_at


class Server:
    """`Server(folder).run()` answers until it is stopped.

    /        the page
    /news    {"epochs": how many are done, "metrics": [...], "error": a sentence or ""}
    /run     what the page holds of the run, anew

    No path of a request is ever opened as a file, so that none leads out of the folder; there is no POST.  A request that names another
    host than 127.0.0.1 or localhost is refused: a page of somebody else's, which makes its own name mean this machine, reads nothing.

    port    0 for any that is free
    """

    def __init__(self, folder: str | Path, port: int = 0):
        self.folder = Path(folder)
        self.lock = threading.Lock()
        self.seen: int | None = None  # when the checkpoint that was read last was written, ns
        self.look: Look = look_at(folder)
        self.error = ""
        self.http = serving({"/": self.page, "/news": self.news, "/run": self.run_again}, port)
        self.port = int(self.http.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/"

    def run(self) -> None:
        self.http.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def refresh(self) -> Look:
        """The run as its last checkpoint has it; a checkpoint that cannot be shown leaves the last one, and a sentence."""
        with self.lock:
            try:
                written = (self.folder / CHECKPOINT).stat().st_mtime_ns
                if written != self.seen:
                    look = look_at(self.folder, self.look.data)
                    payload([look])  # weights that are not finite are refused here
                    self.look, self.seen, self.error = look, written, ""
            except OSError as error:
                self.error = f"{self.folder / CHECKPOINT} cannot be read ({error.strerror})"
            except MinivaeError as error:
                self.error = str(error)
            return self.look

    def page(self) -> tuple[str, str]:
        look = self.refresh()
        if self.seen is None:
            raise UsageError(self.error)
        return "text/html; charset=utf-8", page([look], live=True)

    def news(self) -> tuple[str, str]:
        look = self.refresh()
        metrics = list(look.metrics)
        return "application/json", json_of({"epochs": len(metrics), "metrics": metrics, "error": self.error})

    def run_again(self) -> tuple[str, str]:
        return "application/json", json_of(payload([self.refresh()], live=True)["runs"][0])


def serving(answers: dict[str, Callable[[], tuple[str, str]]], port: int) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 of these answers, (type, text) each.  Raises UsageError where the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "minivae", ""

        def do_GET(self) -> None:
            own = self.server.server_address[1]  # type: ignore[index]
            if self.headers.get("Host", "") not in (f"127.0.0.1:{own}", f"localhost:{own}"):
                return self.answer(403, "text/plain; charset=utf-8", "this server only answers to 127.0.0.1")
            found = answers.get(self.path.partition("?")[0])
            if found is None:
                return self.answer(404, "text/plain; charset=utf-8", f"there are {', '.join(answers)}, and nothing else")
            try:
                kind, text = found()
            except MinivaeError as error:
                return self.answer(500, "text/plain; charset=utf-8", str(error))
            self.answer(200, kind, text)

        def answer(self, code: int, kind: str, text: str) -> None:
            data = text.encode()
            self.send_response(code)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(data))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Only the command line prints."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise UsageError(f"port {port} of 127.0.0.1 cannot be had ({error.strerror}); choose another with --port, or 0 for any") from error
