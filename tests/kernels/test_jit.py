"""The compiler's cache: found again, never stale, and no damage to it stops a program.  Every test watches real processes."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from minivae.kernels.cpu import cache, jit

ROOT = Path(__file__).parents[2]

TINY = """
import warnings, numba, numpy as np
numba.config.CACHE_DIR = "the user's own"
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from minivae.kernels.cpu.jit import kernel

    @kernel
    def double(x):
        for i in range(x.size):
            x[i] *= 2

    @kernel(parallel=True)
    def triple(x):
        for i in numba.prange(x.size):
            x[i] *= 3

    x = np.ones(3, np.float32)
    double(x)
    triple(x)
assert x.tolist() == [6, 6, 6]
assert numba.config.CACHE_DIR == "the user's own"
print(sum(double.stats.cache_hits.values()) + sum(triple.__wrapped__.stats.cache_hits.values()))
for w in caught:
    print(w.category.__name__, w.message)
"""


def run(script, **env):
    done = subprocess.run([sys.executable, script], env=os.environ | {"PYTHONPATH": str(ROOT)} | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def tiny(tmp_path):
    script = tmp_path / "tiny.py"
    script.write_text(TINY)
    return script


def damage_index(folder):
    for path in folder.rglob("*.nbi"):
        path.write_bytes(b"")


def damage_length(folder):
    for path in folder.rglob("*.nbc"):
        path.write_bytes(path.read_bytes()[:1000])


def damage_one_bit(folder):
    for path in folder.rglob("*.nbc"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def damage_nothing(folder):
    pass


@pytest.mark.parametrize("damage", [damage_nothing, damage_index, damage_length, damage_one_bit])
def test_the_cache_is_used_and_mended(tiny, tmp_path, damage):
    cache = tmp_path / "cache"
    assert run(tiny, MINIVAE_CACHE=str(cache)) == ["0"]
    assert len(list(cache.rglob("*.nbc"))) == 2
    damage(cache)
    second = run(tiny, MINIVAE_CACHE=str(cache))
    if damage is damage_nothing:
        assert second == ["2"]
    else:
        assert second[0] == "0"
        assert len(second) == 2, "one warning, for two damaged kernels"
        assert second[1].startswith("RuntimeWarning minivae: compiled kernels")
    assert run(tiny, MINIVAE_CACHE=str(cache)) == ["2"]


def test_a_folder_that_cannot_be_written_costs_one_warning(tiny):
    below_a_file = tiny / "cache"
    hits, *warnings = run(tiny, MINIVAE_CACHE=str(below_a_file))
    assert hits == "0"
    assert len(warnings) == 1
    assert str(below_a_file) in warnings[0]
    assert "MINIVAE_CACHE" in warnings[0]
    assert not list(tiny.parent.rglob("*.nbc")), "and nothing is left beside the source instead"


def test_where_the_cache_lies(tmp_path):
    script = tmp_path / "where.py"
    script.write_text("from minivae.kernels.cpu.cache import cache_folder; print(cache_folder().parent)")
    both = {"MINIVAE_CACHE": str(tmp_path / "a"), "XDG_CACHE_HOME": str(tmp_path / "b"), "HOME": str(tmp_path)}
    assert run(script, **both) == [str(tmp_path / "a" / "kernels")]
    assert run(script, **both | {"MINIVAE_CACHE": ""}) == [str(tmp_path / "b" / "minivae" / "kernels")]
    assert run(script, **both | {"MINIVAE_CACHE": "", "XDG_CACHE_HOME": ""}) == [str(tmp_path / ".cache" / "minivae" / "kernels")]


def test_import_compiles_nothing(tmp_path):
    script = tmp_path / "imports.py"
    script.write_text(
        "import sys\nimport numba.core.event as event\n"
        "with event.install_recorder('numba:compile') as compiled:\n"
        "    import minivae.kernels.cpu.gemm, minivae.kernels.cpu.conv\n"
        "print(len(compiled.buffer))"
    )
    assert run(script, MINIVAE_CACHE=str(tmp_path)) == ["0"]
    assert not list(tmp_path.rglob("*.nbc"))


def test_the_folder_is_named_after_everything_that_matters(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text("a = 1")
    before = cache.sources_hash(tmp_path)
    os.utime(tmp_path / "one.py", (0, 0))
    assert cache.sources_hash(tmp_path) == before
    (tmp_path / "two.py").write_text("")
    with_two = cache.sources_hash(tmp_path)
    (tmp_path / "one.py").write_text("a = 2")
    with_edit = cache.sources_hash(tmp_path)
    monkeypatch.setattr(cache.config, "CPU_NAME", "nehalem")
    assert len({before, with_two, with_edit, cache.sources_hash(tmp_path)}) == 4


TWO_THREADS = """
import numba, numpy as np
from concurrent.futures import ThreadPoolExecutor
from minivae.kernels.cpu.jit import kernel

@kernel(parallel=True)
def count(x):
    for i in numba.prange(x.size):
        x[i] += 1

def many(x):
    for _ in range(200):
        count(x)
    return x

with ThreadPoolExecutor(2) as pool:
    print([int(x.min() + x.max()) for x in pool.map(many, np.zeros((2, 100_000)))], numba.threading_layer())
"""


def test_two_threads_may_enter_the_least_forgiving_threading_layer(tmp_path):
    """numba's workqueue aborts the process when a second thread enters it."""
    script = tmp_path / "two.py"
    script.write_text(TWO_THREADS)
    assert run(script, MINIVAE_CACHE=str(tmp_path / "cache"), NUMBA_THREADING_LAYER="workqueue") == ["[400, 400] workqueue"]


SPAWNED = """
import multiprocessing, sys
import numpy as np
import minivae as mv
from minivae import ops

def product(seed):
    a = mv.Stream(seed).normal((700, 600))
    return ops.dense(a, a.T.copy(), activation="tanh").data.tobytes()  # large enough for two threads

if __name__ == "__main__":
    here = [product(seed) for seed in range(4)]  # the parent's threads run before the children start
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(product, range(4)) == here)
"""


def test_a_spawned_process_computes_the_same_bits(tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    assert run(script) == ["True"]


def test_folders_of_old_kernels_are_cleared_away(tmp_path, tiny):
    kernels = tmp_path / "cache" / "kernels"
    for name, days in (("old", 31), ("recent", 29)):
        (kernels / name).mkdir(parents=True)
        (kernels / name / "a.nbc").write_bytes(b"")
        os.utime(kernels / name, (time.time() - days * 86400,) * 2)
    run(tiny, MINIVAE_CACHE=str(tmp_path / "cache"))
    assert {folder.name for folder in kernels.iterdir()} >= {"recent"}
    assert not (kernels / "old").exists()
    assert len(list(kernels.iterdir())) == 2


def test_every_thread_has_its_own_scratch():
    mine = jit.scratch("test", 2, 100)
    assert mine.shape[0] >= 2
    assert mine.shape[1] >= 100
    assert jit.scratch("test", 1, 50) is mine
    larger = jit.scratch("test", 1, 5000)
    assert larger.shape[1] >= 5000
    theirs = []
    thread = threading.Thread(target=lambda: theirs.append(jit.scratch("test", 1, 1)))
    thread.start()
    thread.join()
    assert not np.shares_memory(theirs[0], larger)
