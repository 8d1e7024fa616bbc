"""A tiny data set of four IDX files, and web servers on this machine that serve it well or badly."""

import gzip
import hashlib
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from minivae.data import sources


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """No test sees the user's folders, or leaves this machine through a proxy."""
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINIVAE_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@dataclass
class Tiny:
    """The files of a data set of 20 + 10 images, 5 x 4, and where its source is registered: under the name mnist."""

    files: dict[str, bytes]  # unpacked
    arrays: list[np.ndarray]  # train images, train labels, test images, test labels
    source: sources.IdxSource
    cache: Path

    def write(self, folder: Path, *, packed: bool = True, dotted: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            spelling = name.replace("-idx", ".idx") if dotted else name
            (folder / (spelling + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    draw = np.random.default_rng(0)
    arrays, files = [], {}
    for name, n in (("train", 20), ("t10k", 10)):
        images, labels = draw.integers(0, 256, (n, 5, 4), np.uint8), draw.integers(0, 10, n, np.uint8)
        files[f"{name}-images-idx3-ubyte"] = struct.pack(">4B3I", 0, 0, 8, 3, n, 5, 4) + images.tobytes()
        files[f"{name}-labels-idx1-ubyte"] = struct.pack(">4BI", 0, 0, 8, 1, n) + labels.tobytes()
        arrays += [images, labels]
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    # port 9 is "discard": nothing listens there, so a connection is refused at once
    source = replace(sources.MNIST, sha256=hashes, mirrors=("http://127.0.0.1:9/a/", "http://127.0.0.1:9/b/"))
    monkeypatch.setitem(sources.SOURCES, "mnist", source)
    return Tiny(files, arrays, source, tmp_path / "cache" / "data" / "mnist")


class Mirrors:
    """`url("good")`, `url("short")`, ... are mirrors that behave so; `hits` counts the requests for each path."""

    def __init__(self, files: dict[str, bytes]):
        self.packed = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
        self.hits: Counter[str] = Counter()
        self.closing = threading.Event()
        mirrors = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                mirrors.hits[self.path] += 1
                _, kind, name = self.path.split("/")
                with suppress(ConnectionError):  # the client hangs up on a mirror that it gives up
                    mirrors.answer(self, kind, mirrors.packed[name])

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler, kind: str, body: bytes) -> None:
        if kind == "absent":
            handler.send_error(404)
            return
        if kind == "altered":
            content = bytearray(gzip.decompress(body))
            content[-1] ^= 1
            body = gzip.compress(bytes(content))
        if kind == "damaged":
            body = body[:-12] + bytes(12)
        if kind == "portal":
            body = b"<html>Please log in to the network</html>"
        if kind == "slow":
            time.sleep(0.1)
        handler.send_response(200)
        if kind != "unannounced":
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if kind in ("short", "unannounced"):
            body = body[: len(body) // 2]
        if kind == "stalled":
            self.closing.wait(10)
        elif kind == "dripping":
            for byte in body:
                handler.wfile.write(bytes([byte]))
                if self.closing.wait(0.05):
                    break
        else:
            handler.wfile.write(body)

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{kind}/"

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def mirrors(tiny):
    servers = Mirrors(tiny.files)
    yield servers
    servers.close()


@pytest.fixture
def use_mirrors(tiny, mirrors, monkeypatch):
    """use_mirrors("absent", "good") registers the tiny data set with these mirrors."""

    def use(*kinds: str) -> tuple[str, ...]:
        urls = tuple(map(mirrors.url, kinds))
        monkeypatch.setitem(sources.SOURCES, "mnist", replace(tiny.source, mirrors=urls))
        return urls

    return use
