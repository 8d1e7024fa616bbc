"""From a mirror into the cache: every way in which that goes wrong leaves a sentence and a clean cache."""

import gzip
import json
import os
import re
import subprocess
import sys
import time

import pytest
from numpy.testing import assert_array_equal

from minivae.data import cache_folder, download, load
from minivae.errors import DataError


def load_tiny(tiny, **options):
    data = load("mnist", progress=False, **options)
    parts = (data.train_images[..., 0], data.train_labels, data.test_images[..., 0], data.test_labels)
    for part, expected in zip(parts, tiny.arrays, strict=True):
        assert_array_equal(part, expected)
    return data


def cached(tiny) -> list[str]:
    return sorted(p.name for p in tiny.cache.iterdir() if p.name != ".lock")


def complete(tiny) -> list[str]:
    return sorted(f"{name}.gz" for name in tiny.files)


def test_a_download_is_cached(tiny, mirrors, use_mirrors):
    use_mirrors("good")
    for _ in range(2):
        assert load_tiny(tiny).note == ""
    assert cached(tiny) == complete(tiny)
    assert mirrors.hits == {f"/good/{name}.gz": 1 for name in tiny.files}


def test_the_progress_bar_counts_the_bytes_and_can_be_silenced(tiny, mirrors, use_mirrors, monkeypatch, capsys):
    use_mirrors("good")
    bars = []

    class Bar(download.tqdm):
        def __init__(self, **options):
            bars.append((options["desc"], options["total"]))
            super().__init__(**{**options, "disable": bool(options["disable"])})  # None, "on a terminal": as if this were one

    monkeypatch.setattr(download, "tqdm", Bar)
    load("mnist")
    assert bars == [(f"{name}.gz", len(mirrors.packed[f"{name}.gz"])) for name in tiny.files]
    assert capsys.readouterr().err.count("100%") == 4
    for path in tiny.cache.iterdir():
        path.unlink()
    load("mnist", progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("absent", "HTTP Error 404"),
        ("short", r"ended after \d+ of \d+ bytes"),
        ("unannounced", "altered: a damaged gzip file; deleted"),
        ("altered", r"altered: SHA-256 [0-9a-f]{16}..., need [0-9a-f]{16}...; deleted"),
        ("damaged", "altered: a damaged gzip file; deleted"),
        ("portal", r"altered: SHA-256 [0-9a-f]{16}..., need"),
    ],
)
def test_a_bad_mirror_is_named_and_the_next_one_tried(tiny, mirrors, use_mirrors, kind, reason):
    bad, _ = use_mirrors(kind, "good")
    load_tiny(tiny)
    assert cached(tiny) == complete(tiny)
    for path in tiny.cache.iterdir():
        path.unlink()
    use_mirrors(kind)
    with pytest.raises(DataError, match=rf"mnist: cannot download train-images-idx3-ubyte\.gz from {re.escape(bad)} \({reason}"):
        load("mnist", progress=False)
    assert cached(tiny) == []


@pytest.mark.parametrize(("kind", "reason"), [("stalled", "timed out"), ("dripping", r"\d+ bytes in \d\.\d s")])
def test_a_slow_mirror_is_given_up(tiny, mirrors, use_mirrors, kind, reason):
    bad = use_mirrors(kind)
    name = next(iter(tiny.files))
    start = time.monotonic()
    with pytest.raises(download.Unavailable, match=rf"from {re.escape(bad[0])} \({reason}\)$"):
        download.fetch(tiny.cache, name, tiny.source.sha256[name], bad, False, 0.3, [])
    assert time.monotonic() - start < 5  # the whole drip takes 20 s, the stall 10 s


def test_no_network_gives_one_sentence_with_every_way_out(tiny):
    with pytest.raises(DataError) as caught:
        load("mnist", progress=False)
    message = str(caught.value)
    for part in (*tiny.source.mirrors, str(tiny.cache), "digits5k", "refused"):
        assert part in message
    assert "\n" not in message


def test_no_download_means_none(tiny, mirrors, use_mirrors):
    use_mirrors("good")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is not in .*, and downloads are off; put the four files into"):
        load("mnist", download=False)
    assert not mirrors.hits
    tiny.write(tiny.cache)  # the message's way out
    load_tiny(tiny, download=False)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "another"])
def test_an_altered_file_in_the_cache_is_replaced_and_named(tiny, mirrors, use_mirrors, damage):
    use_mirrors("good")
    tiny.write(tiny.cache)
    path = tiny.cache / "t10k-images-idx3-ubyte.gz"
    content = path.read_bytes()
    flipped = gzip.compress(gzip.decompress(content)[:-1] + b"\0")
    another = (tiny.cache / "t10k-labels-idx1-ubyte.gz").read_bytes()
    path.write_bytes({"flipped": flipped, "cut": content[:50], "empty": b"", "another": another}[damage])
    data = load_tiny(tiny)
    assert str(path) in data.note
    assert "deleted" in data.note
    assert mirrors.hits == {"/good/t10k-images-idx3-ubyte.gz": 1}
    assert load_tiny(tiny).note == ""


def test_an_altered_file_in_the_cache_stays_when_nothing_may_replace_it(tiny):
    tiny.write(tiny.cache)
    path = tiny.cache / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"downloads are off; .*t10k-images-idx3-ubyte.gz is altered"):
        load("mnist", download=False)
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("when", ["before it is read", "after it is read"])
def test_an_altered_file_that_another_process_deletes_meanwhile_is_a_missing_one(tiny, mirrors, use_mirrors, monkeypatch, when):
    use_mirrors("good")
    tiny.write(tiny.cache)
    path = tiny.cache / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(b"altered")
    unpacked = download.unpacked

    def race(read):
        if read == path and when == "before it is read":
            path.unlink(missing_ok=True)
        content = unpacked(read)
        if read == path and when == "after it is read":
            path.unlink()
        return content

    monkeypatch.setattr(download, "unpacked", race)
    assert load_tiny(tiny).note == ""
    assert mirrors.hits == {"/good/t10k-images-idx3-ubyte.gz": 1}


def test_the_cached_name_appears_only_when_its_bytes_are_on_disk(tiny, mirrors, use_mirrors, monkeypatch):
    use_mirrors("good")
    synced = []

    def watch(descriptor):
        size = os.fstat(descriptor).st_size
        assert size in [len(body) for body in mirrors.packed.values()]
        assert cached(tiny)[0].endswith(".part")  # "." sorts first: one temporary file
        assert cached(tiny)[1:] == sorted(complete(tiny)[i] for i in order[: len(synced)])
        synced.append(size)

    order = [complete(tiny).index(f"{name}.gz") for name in tiny.files]
    monkeypatch.setattr(download.os, "fsync", watch)
    load_tiny(tiny)
    assert len(synced) == 4


def test_a_killed_process_leaves_nothing_for_good(tiny, mirrors, use_mirrors):
    use_mirrors("good")
    tiny.cache.mkdir(parents=True)
    (tiny.cache / ".t10k-images-idx3-ubyte.1.abcd.part").write_bytes(b"half")
    load_tiny(tiny)
    assert cached(tiny) == complete(tiny)


def test_a_full_disk_is_a_sentence_and_leaves_no_temporary_file(tiny, mirrors, use_mirrors, monkeypatch):
    use_mirrors("good")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write to the cache .*: No space left on device; set MINIVAE_CACHE"):
        load("mnist", progress=False)
    assert cached(tiny) == []


def test_a_cache_that_cannot_be_made_is_one_sentence(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot write to the cache .*/file/cache/data/mnist: Not a directory; set MINIVAE_CACHE"):
        load("mnist", progress=False)


ONE_PROCESS = """
import sys, json
from dataclasses import replace
from minivae.data import download, load, sources
sha256, mirror, locks = json.loads(sys.argv[1])
if not locks:
    download.fcntl = None
sources.SOURCES["mnist"] = replace(sources.MNIST, sha256=sha256, mirrors=(mirror,))
print("ready", flush=True)
sys.stdin.readline()
print(load("mnist", progress=False).train_images.tobytes().hex())
"""


@pytest.mark.parametrize(("locks", "start_altered"), [(True, True), (True, False), (False, True)])
def test_two_processes_share_one_cache(tiny, mirrors, start_altered, locks):
    if start_altered:
        tiny.write(tiny.cache)
        for path in tiny.cache.iterdir():
            path.write_bytes(path.read_bytes()[:-20])
    argument = json.dumps([tiny.source.sha256, mirrors.url("slow"), locks])
    command = [sys.executable, "-c", ONE_PROCESS, argument]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=20)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs == [tiny.arrays[0].tobytes().hex() + "\n"] * 2
    assert cached(tiny) == complete(tiny)
    if locks and download.fcntl is not None:
        assert set(mirrors.hits.values()) == {1}  # the second one waits, then finds the file
    load_tiny(tiny, download=False)


def test_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "cache"  # MINIVAE_CACHE
    monkeypatch.setenv("MINIVAE_CACHE", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("MINIVAE_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "minivae"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == tmp_path / ".cache" / "minivae"
