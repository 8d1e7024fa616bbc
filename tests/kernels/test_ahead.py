"""A second process compiles what the first will need."""

import os
import threading

import pytest

from minivae.cli import bench
from minivae.kernels.cpu import ahead, cache, watch

FIRST = {"_uniform", "_uniform_parallel", "_normal", "_gemm", "_correlate", "_sample_and_kl"}  # that the first process is at by then


def kinds(work):
    """The kernels that `work` calls, each with the types for which it was compiled."""
    with watch.recorded() as calls:
        work()
    return {(k.py_func.__name__, tuple(str(k.typeof_pyval(a)) for a in arguments)) for k, arguments in calls}


def test_it_compiles_what_the_steps_of_a_dense_and_of_a_convolutional_vae_need():
    ready = kinds(ahead.last_first)
    for name in ("mlp", "conv"):
        *_, step = bench.set_up(bench.WORKLOADS[name])
        missing = {kernel for kernel in kinds(step) - ready if kernel[0] not in FIRST | {"_address"}}
        assert not missing, name


def test_it_is_started_once_and_only_where_nothing_is_compiled_yet(tmp_path, monkeypatch):
    started = []

    class Popen:
        def __init__(self, command, **options):
            started.append((command, options))

        def wait(self):
            assert self.returncode is None  # else Python takes it for ended
            waited.append(self)

    waited = []
    monkeypatch.setattr(ahead, "_started", [])
    monkeypatch.setattr(ahead.subprocess, "Popen", Popen)
    monkeypatch.delenv(ahead.SECOND, raising=False)
    ahead.begin(tmp_path, 2)
    [(command, options)] = started
    assert command[-1] == "minivae.kernels.cpu.ahead"
    assert ahead.SECOND in options["env"]
    assert options["process_group"] == 0  # Ctrl-C is not for it
    assert not options.get("start_new_session")  # Linux gives each session its share, whatever the priorities in it
    ahead.begin(None, 2)
    ahead.begin(tmp_path, 1)
    monkeypatch.setenv(ahead.SECOND, "1")
    ahead.begin(tmp_path, 2)  # the second process starts no third
    monkeypatch.delenv(ahead.SECOND)
    (tmp_path / "gemm.nbi").touch()
    ahead.begin(tmp_path, 2)
    assert len(started) == 1

    for _ in range(2):
        ahead.end()  # of a measurement's first steps
        assert len(waited) == 1


@pytest.mark.skipif(not hasattr(os, "nice"), reason="no priorities")
def test_it_leaves_the_cores_to_a_training_that_has_begun(monkeypatch):
    done = []
    monkeypatch.setattr(os, "nice", lambda n: done.append(n))
    monkeypatch.setattr(ahead, "last_first", lambda: done.append("compiled"))
    ahead.second()
    assert done == [10, "compiled"]


def test_who_compiles_a_kernel_holds_off_the_others(tmp_path):
    mine, theirs = cache._claim(tmp_path / "gemm.claim"), []
    waiting = threading.Thread(target=lambda: theirs.append(cache._claim(tmp_path / "gemm.claim")))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    mine.close()
    waiting.join(10)
    assert not waiting.is_alive()
    theirs[0].close()


def test_a_claim_is_no_obstacle_where_nothing_can_be_written(tmp_path):
    cache._claim(tmp_path / "nowhere" / "gemm.claim").close()
