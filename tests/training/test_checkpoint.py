"""A checkpoint comes back as it was saved or not at all, whatever happens to the file, the disk or the process."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from minivae.errors import CheckpointError
from minivae.runs import checkpoint
from minivae.runs.checkpoint import load, save, write_atomically

SMALL = {"model/encoder.0.w": np.arange(6, dtype=np.float32).reshape(2, 3), "step": np.array(7)}
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


def identical(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


dtypes = st.one_of(
    arrays_of.floating_dtypes(sizes=(32, 64)), arrays_of.integer_dtypes(), arrays_of.unsigned_integer_dtypes(), arrays_of.boolean_dtypes()
)
any_array = arrays_of.arrays(dtypes, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4))
printable = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)
any_name = printable.filter(lambda name: not name.endswith(".npy") and name != checkpoint.METADATA)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | printable,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(printable, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(any_name, any_array, max_size=4), st.dictionaries(printable, json_values, max_size=3))
def test_what_was_saved_comes_back_bit_for_bit(tmp_path_factory, arrays, metadata):
    path = tmp_path_factory.getbasetemp() / "round-trip.npz"
    save(path, arrays, metadata)
    arrays_back, metadata_back = load(path)
    assert arrays_back.keys() == arrays.keys()
    assert all(identical(arrays_back[name], arrays[name]) for name in arrays)
    assert metadata_back == metadata


def test_loaded_arrays_can_be_trained_on(tmp_path):
    save(tmp_path / "model.npz", SMALL, {})
    arrays, _ = load(tmp_path / "model.npz")
    arrays["model/encoder.0.w"] += 1
    assert arrays["model/encoder.0.w"].max() == 6


def test_numpy_alone_can_read_it(tmp_path):
    save(tmp_path / "model.npz", SMALL, {"data set": "Zürich"})
    with np.load(tmp_path / "model.npz", allow_pickle=False) as members:
        assert sorted(members.files) == ["metadata.json", "model/encoder.0.w", "step"]
        assert identical(members["model/encoder.0.w"], SMALL["model/encoder.0.w"])
        assert json.loads(members["metadata.json"].tobytes().decode("utf-8")) == {"data set": "Zürich"}


def test_any_tool_can_check_the_seal(tmp_path):
    save(tmp_path / "model.npz", SMALL, {})
    data = (tmp_path / "model.npz").read_bytes()
    comment = zipfile.ZipFile(tmp_path / "model.npz").comment
    assert data.endswith(comment)
    assert comment.decode() == "sha256:" + hashlib.sha256(data[:-64]).hexdigest()


def test_equal_content_makes_equal_bytes(tmp_path, monkeypatch):
    """Neither the order of names, nor the layout in memory, nor the year is content."""
    w = np.arange(12, dtype=np.float64).reshape(3, 4)
    save(tmp_path / "one.npz", {"w": w, "b": w[0]}, {"epoch": 3, "beta": 0.5})
    monkeypatch.setattr(time, "time", lambda: 2e9)
    save(tmp_path / "two.npz", {"b": w[0].copy(), "w": np.asfortranarray(w)}, {"beta": 0.5, "epoch": 3})
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert {info.date_time for info in zipfile.ZipFile(tmp_path / "two.npz").infolist()} == {(1980, 1, 1, 0, 0, 0)}


# a file that was altered


def assert_refused(path, data):
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        load(path)


def assert_flip_refused(path, position, pattern):
    """In place and back again: thousands of whole files would keep the disk busy."""
    with open(path, "r+b", buffering=0) as file:
        byte = file.read()[position]
        file.seek(position)
        file.write(bytes([byte ^ pattern]))
        with pytest.raises(CheckpointError):
            load(path)
        file.seek(position)
        file.write(bytes([byte]))


def test_every_flipped_byte_of_a_small_file_is_noticed(tmp_path):
    path = tmp_path / "model.npz"
    save(path, SMALL, {"epoch": 3})
    for position in range(path.stat().st_size):
        for pattern in (1, 2, 4, 8, 16, 32, 64, 128, 255):  # 32 turns a hexadecimal digit into its capital
            assert_flip_refused(path, position, pattern)
    load(path)


def test_flipped_bytes_of_a_large_file_are_noticed(tmp_path):
    path = tmp_path / "model.npz"
    rng = np.random.default_rng(0)
    save(path, {"w": rng.standard_normal((512, 512), dtype=np.float32)}, {})
    size = path.stat().st_size
    assert size > 2**20
    for position, pattern in zip(rng.integers(size, size=100), rng.integers(1, 256, size=100), strict=True):
        assert_flip_refused(path, int(position), int(pattern))
    load(path)


def test_a_file_cut_short_or_appended_to_is_noticed(tmp_path):
    path = tmp_path / "model.npz"
    save(path, SMALL, {"epoch": 3})
    good = path.read_bytes()
    for length in range(len(good)):
        assert_refused(path, good[:length])
        assert_refused(path, good[length + 1 :])
    for tail in (b"\0", b"\n", good[-71:], good, bytes(4096)):
        assert_refused(path, good + tail)


def sealed(data):
    """data, closed as a checkpoint is: only its content can give it away."""
    return data + checkpoint._digest(data + bytes(64))


@pytest.mark.parametrize("content", [b"", b"just a text file\n", b"\x93NUMPY\x01\0", b"PK\x03\x04", b"PK\x05\x06" + bytes(16) + b"\x47\0"])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    assert_refused(tmp_path / "notes.txt", content)
    assert_refused(tmp_path / "notes.txt", sealed(content + b"sha256:"))


def test_the_message_tells_a_foreign_file_from_a_damaged_one(tmp_path):
    path = tmp_path / "model.npz"
    save(path, SMALL, {})
    good = path.read_bytes()
    cases = {good[:99] + b"?" + good[100:]: "is damaged", good[:-9]: "cut short", b"a text": "not a checkpoint"}
    for data, words in cases.items():
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=words):
            load(path)
    with pytest.raises(CheckpointError, match="does not exist"):
        load(tmp_path / "none.npz")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("w", np.array([object()])),
        ("w", np.array(["text"])),
        ("w", [1.0, 2.0]),
        ("metadata.json", np.zeros(1)),
        ("w.npy", np.zeros(1)),  # numpy.load would take it for the member of an array called w
        ("w\0b", np.zeros(1)),  # a zip entry's name ends at the zero
    ],
)
def test_arrays_that_would_not_come_back_are_refused(tmp_path, name, array):
    with pytest.raises(CheckpointError, match=r"model\.npz"):
        save(tmp_path / "model.npz", {name: array}, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [(1, 2), {1: "a"}, float("nan"), np.zeros(2), b"bytes", "\ud800"])
def test_metadata_that_would_not_come_back_is_refused(tmp_path, value):
    with pytest.raises(CheckpointError, match="metadata"):
        save(tmp_path / "model.npz", {}, {"value": value})


# a disk that says no


@pytest.fixture
def old(tmp_path):
    """A folder with a good checkpoint in it, which must survive the test, alone."""
    path = tmp_path / "model.npz"
    save(path, SMALL, {"version": "old"})
    yield path
    assert load(path)[1] == {"version": "old"}
    assert os.listdir(tmp_path) == ["model.npz"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_failing_disk_leaves_the_old_file(old, monkeypatch, call, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoint.os, call, fail)
    with pytest.raises(CheckpointError, match="closed to writing" if number == errno.EIO else "has no room"):
        save(old, SMALL, {"version": "new"})


def test_an_interrupt_leaves_the_old_file_and_stays_an_interrupt(old, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(old, SMALL, {"version": "new"})


@posix
def test_a_disk_that_fills_up_half_way_leaves_the_old_file(old):
    """A limit on file sizes stops the write after 100 000 bytes, in the kernel, as a full disk would."""
    script = f"""
import resource, signal
import numpy as np
from minivae.errors import CheckpointError
from minivae.runs.checkpoint import save
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save({str(old)!r}, {{"w": np.ones(100_000)}}, {{"version": "new"}})
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "has no room for its 800" in done.stdout


def test_a_place_that_cannot_hold_a_file_is_named(old):
    for place in (old / "below a file.npz", old.parent / "no such folder" / "model.npz"):
        with pytest.raises(CheckpointError, match="missing or closed"):
            save(place, SMALL, {})
        with pytest.raises(CheckpointError):
            load(place)
    with pytest.raises(CheckpointError, match="a folder or a device"):
        save(old.parent, SMALL, {})


@posix
def test_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="a folder or a device"):
        save(tmp_path / "pipe", SMALL, {})
    assert not os.path.isfile(tmp_path / "pipe")


@posix
def test_the_name_moves_after_the_bytes_are_on_the_disk_and_the_folder_follows(tmp_path, monkeypatch):
    """A power cut cannot be had in a test; the order of calls that survives one can."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        calls.append(("fsync", os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))
        fsync(descriptor)

    def noted_replace(source, target):
        calls.append(("replace", os.stat(source).st_ino, target))
        replace(source, target)

    monkeypatch.setattr(checkpoint.os, "fsync", noted_fsync)
    monkeypatch.setattr(checkpoint.os, "replace", noted_replace)
    path = tmp_path / "config.json"
    write_atomically(path, b"{}")
    file, folder = os.stat(path).st_ino, os.stat(tmp_path).st_ino
    assert calls[:2] == [("fsync", file, 2), ("replace", file, path)]
    assert [call[:2] for call in calls[2:]] == [("fsync", folder)]


# a process that dies


def test_leftovers_of_dead_writers_are_swept_and_nothing_else(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    tail, here = "0123456789abcdef.tmp", checkpoint._HOST
    elsewhere = f"{int(here, 16) ^ 1:08x}"
    dead, old_and_alive = f".minivae-{here}-{ended.pid}-{tail}", f".minivae-{here}-{os.getpid()}-{tail}"
    foreign, old_and_foreign = f".minivae-{elsewhere}-{ended.pid}-{tail}", f".minivae-{elsewhere}-1-{tail}"
    alive, look_alike = f".minivae-{here}-{os.getppid()}-{tail}", f"minivae-{here}-{ended.pid}-{tail}"
    for name in (dead, old_and_alive, foreign, old_and_foreign, alive, look_alike):
        (tmp_path / name).write_bytes(b"half a checkpoint")
    for name in (old_and_alive, old_and_foreign):
        two_hours_ago = time.time() - 7200
        os.utime(tmp_path / name, (two_hours_ago, two_hours_ago))
    save(tmp_path / "model.npz", SMALL, {})
    swept = {dead, old_and_foreign, old_and_alive} if os.name == "posix" else {old_and_foreign, old_and_alive}
    assert {dead, old_and_alive, foreign, old_and_foreign, alive, look_alike} - set(os.listdir(tmp_path)) == swept


def kill_while_saving(folder, kills, how):
    script = Path(__file__).with_name("kill_while_saving.py")
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # it forks, and threads do not fork
    command = [sys.executable, script, folder, str(kills), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@posix
def test_200_kills_while_saving_leave_the_old_file_or_the_new(tmp_path):
    result = kill_while_saving(tmp_path, 200, "atomic")
    assert result["torn"] == 0
    assert result["half_way"] > 0  # else no kill met a save, and nothing was tried
    assert result["most_leftovers"] == 1  # every save sweeps the one before
    assert result["left"] == ["model.npz"]


@posix
def test_the_experiment_can_tell_a_plain_write(tmp_path):
    assert kill_while_saving(tmp_path, 100, "plain")["torn"] > 0
