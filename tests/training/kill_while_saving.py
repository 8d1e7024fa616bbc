"""Kill -9 a process at random moments while it saves, and look at what it leaves.   kill_while_saving.py FOLDER KILLS atomic|plain

Version v of the file holds arrays filled with v.  A victim saves v + 1, v + 2, ... as fast as it can, and notes in shared memory which
version it began and which it finished.  The file must be whole and one of those two.  `plain` writes with open and write, as a check that
this experiment can tell.  Prints JSON: how many files were torn or lost, and how many kills hit a save half-way.
"""

import json
import mmap
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

import numpy as np

from minivae.errors import CheckpointError
from minivae.runs import checkpoint

VALUES = 60_000  # two float32 arrays of so many: 0.5 MB


def write_plainly(path, data):
    with open(path, "wb") as file:
        file.write(data)


def save_version(path, version):
    arrays = {name: np.full(VALUES, version, np.float32) for name in ("encoder.w", "decoder.w")}
    checkpoint.save(path, arrays, {"version": version})


def version_of(path):
    """The version that every value in the file agrees on; raises CheckpointError or AssertionError."""
    arrays, metadata = checkpoint.load(path)
    assert sorted(arrays) == ["decoder.w", "encoder.w"]
    for array in arrays.values():
        assert array.shape == (VALUES,)
        assert (array == metadata["version"]).all()
    return metadata["version"]


def save_forever(path, version, progress):
    while True:
        version += 1
        struct.pack_into("q", progress, 0, version)
        save_version(path, version)
        struct.pack_into("q", progress, 8, version)


def experiment(folder, kills):
    path = folder / "model.npz"
    progress = mmap.mmap(-1, 16)  # begun, finished: shared with every victim
    moments = random.Random(0)
    save_version(path, 0)
    version, torn, half_way, most_leftovers = 0, 0, 0, 0
    for _ in range(kills):
        progress[:] = struct.pack("qq", version, version)
        victim = os.fork()
        if victim == 0:
            save_forever(path, version, progress)
        while struct.unpack("qq", progress[:])[1] < version + 1 + moments.randrange(2):  # it is under way
            time.sleep(0.0005)
        time.sleep(moments.uniform(0, 0.02))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        begun, finished = struct.unpack("qq", progress[:])
        leftovers = len(list(folder.iterdir())) - 1
        half_way += leftovers > 0
        most_leftovers = max(most_leftovers, leftovers)
        try:
            version = version_of(path)
            assert version in (begun, finished)
        except (CheckpointError, AssertionError):
            torn, version = torn + 1, begun
    save_version(path, version + 1)
    return {"torn": torn, "half_way": half_way, "most_leftovers": most_leftovers, "left": sorted(os.listdir(folder)), "saves": version}


if __name__ == "__main__":
    if sys.argv[3] == "plain":
        checkpoint.write_atomically = write_plainly
    print(json.dumps(experiment(Path(sys.argv[1]), int(sys.argv[2]))))
