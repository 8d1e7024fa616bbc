"""Sections 2, 3, 5, 6 and 7 of benchmarks/gpu.py: what they make of losses, of tests that hang, and of the words of tools."""

import argparse
import importlib
import json
import math
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """Import a module of benchmarks/."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(out=tmp_path, dry_run=False, workloads=None, until=time.monotonic() + 600, patience=60.0, limit=60.0)


# --- 2: the training ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("story", ["dense", "conv"])
def test_a_training_on_this_cpu_lies_within_the_stored_bounds_and_a_slightly_wrong_one_does_not(module, story):
    trained = module("gpu_train")
    for dry in (True, False):
        kept = json.loads(trained.LOSSES.read_text())[story]["dry" if dry else "real"]
        assert max(trained.bounds(kept)) < 3e-4  # a bound that says something
        found = trained.judged(kept, trained.train(trained.build(story, dry), dry)[0])
        assert found["holds"], found
        wrong, _ = trained.train(trained.build(story, dry), dry, lr=1.001 * trained.setting(dry).lr)
        assert not trained.judged(kept, wrong)["holds"]
        wrong[-1]["loss"] = math.nan
        assert trained.judged(kept, wrong)["worst"] == math.inf


def test_the_exact_run_has_the_noise_of_the_others(module):
    trained = module("gpu_train")
    kept = json.loads(trained.LOSSES.read_text())
    for story in kept.values():
        for found in story.values():  # another noise would move a loss by more than a thousandth
            assert max(abs(a / b - 1) for a, b in zip(found["float32"], found["float64"], strict=True)) <= max(found["farthest"]) < 1e-4


# --- 3: the tests ------------------------------------------------------------------------------------------------------------------

PLANTED = """
import os, time, warnings
import pytest

pytestmark = pytest.mark.gpu

def test_the_table_of_ops(): pass  # the last by its name
def test_warns(): warnings.warn("of somebody else's package", DeprecationWarning)
def test_fails(): assert 1 == 2
def test_spoils(): raise RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
def test_uniforms(): pass  # the first by its name
def test_hangs(): time.sleep(600)
def test_dies(): os.abort()
def test_skips(): pytest.skip("no reason")
"""


def test_a_test_that_hangs_dies_or_spoils_the_gpu_costs_itself_alone(module, options, monkeypatch, tmp_path):
    section = module("gpu_tests")
    (tmp_path / "test_planted.py").write_text(PLANTED)
    monkeypatch.setattr(section, "TESTS", tmp_path / "test_planted.py")
    monkeypatch.setenv("PYTHONPATH", f"{BENCHMARKS}:{BENCHMARKS.parent}")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--an-option-of-somebody-else")
    monkeypatch.setenv("PYTEST_PLUGINS", "a_plugin_of_somebody_else")
    options.patience = 8.0
    rows = list(section.tests(options))
    found = {row["test"].split("::")[1]: row for row in rows if "test" in row}
    assert next(iter(found)) == "test_uniforms"
    assert list(found)[-1] == "test_the_table_of_ops"
    assert [name for name, row in found.items() if row["holds"]] == ["test_uniforms", "test_warns", "test_the_table_of_ops"]
    assert found["test_skips"]["holds"] is None
    assert "assert 1 == 2" in found["test_fails"]["why"]
    assert "test_planted.py" in found["test_fails"]["traceback"]
    assert "cudaErrorIllegalAddress" in found["test_spoils"]["why"]
    assert found["test_hangs"]["why"] == "it hangs, and was stopped"
    assert found["test_dies"]["why"] == "its process ended by SIGABRT"
    assert rows[-1]["all"]


def test_tests_that_cannot_begin_are_said(module, options, monkeypatch, tmp_path):
    section = module("gpu_tests")
    (tmp_path / "test_planted.py").write_text("import nothing_of_that_name\n")
    monkeypatch.setattr(section, "TESTS", tmp_path / "test_planted.py")
    monkeypatch.setenv("PYTHONPATH", f"{BENCHMARKS}:{BENCHMARKS.parent}")
    (row,) = section.tests(options)
    assert row["failed"] == "pytest"


# --- 5: nodes ----------------------------------------------------------------------------------------------------------------------


def trace(*launches):
    """A Chrome trace of PyTorch's profiler: kernels (name, start, duration), among what a CPU did."""
    events = [{"cat": "kernel", "name": name, "ts": ts, "dur": dur} for launch in launches for name, ts, dur in launch]
    return {"traceEvents": [{"cat": "cuda_runtime", "name": "cudaGraphLaunch", "ts": 0, "dur": 5}, {"name": "process_name"}, *events[::-1]]}


def test_each_node_has_the_median_of_its_times_and_the_gap_before_it(module):
    nodes = module("gpu_nodes")
    launches = [[("gemm", t, 4.0 + i), ("adam", t + 4 + i + 2.0 * i, 1.5)] for i, t in enumerate((10.0, 110.0, 210.0))]
    rows = nodes.positions(nodes.events_of(trace(*launches)), 3)
    assert rows == [
        {"node": 0, "name": "gemm", "microseconds": 5.0, "gap": 0.0},
        {"node": 1, "name": "adam", "microseconds": 1.5, "gap": 2.0},
    ]
    with pytest.raises(ValueError, match="5 nodes ran in 3 launches"):
        nodes.positions(nodes.events_of(trace(*launches))[:5], 3)
    launches[1][0] = ("another", *launches[1][0][1:])
    with pytest.raises(ValueError, match="node 0 is called another and gemm"):
        nodes.positions(nodes.events_of(trace(*launches)), 3)


def test_the_nodes_of_a_description_by_cuda(module):
    dot = (
        'digraph dot {\nsubgraph cluster_1 {\nlabel="graph_1" graph[style="dashed"];\n'
        '"graph_1_node_0"[style="bold" shape="octagon" label="0\ngather\\<\\<\\<308,256,0\\>\\>\\>\n"];\n'
        '"graph_1_node_1"[style="bold" shape="octagon" label="1\ngemm64_nn_fp32\n"];\n'
        '"graph_1_node_0" -> "graph_1_node_1";\n}\n}\n'
    )
    names = module("gpu_nodes").nodes_of_dot(dot)
    assert len(names) == 2
    assert names[0].startswith("gather")
    assert names[1] == "gemm64_nn_fp32"


# --- 6: compute-sanitizer ----------------------------------------------------------------------------------------------------------

CLEAN = '========= COMPUTE-SANITIZER\n["adam", "gather"]\n========= ERROR SUMMARY: 0 errors\n'
INVALID = """========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 4 bytes
=========     at gather+0x120
=========     by thread (255,0,0) in block (3,0,0)
=========     Access to 0x7f1e is out of bounds
=========     Saved host backtrace up to driver entry point at kernel launch time
========= ERROR SUMMARY: 1 error
"""
HAZARDS = """========= COMPUTE-SANITIZER
========= Warning: Race reported between Write access at column_sum+0x60 in kernels.cu:19
=========     and Read access at column_sum+0x90 in kernels.cu:25 [1024 hazards]
=========
========= RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)
"""


def test_the_words_of_the_sanitizer(module):
    errors_of = module("gpu_tools").errors_of
    assert errors_of(CLEAN) == (0, [])
    assert errors_of("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)") == (0, [])
    faults, about = errors_of(INVALID)
    assert faults == 1
    assert about == ["Invalid __global__ read of size 4 bytes; at gather+0x120; by thread (255,0,0) in block (3,0,0)"]
    faults, about = errors_of(HAZARDS)
    assert faults == 1
    assert about[0].startswith("Warning: Race reported between Write access at column_sum+0x60")
    assert errors_of("sh: no such tool") == (None, [])


@pytest.fixture
def fake(module, monkeypatch, tmp_path):
    """Put a program of these words in the place of a tool."""

    def install(name, body):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\nimport sys, time\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setattr(module("gpu_tools"), "tool", lambda wanted: str(path) if wanted == name else None)

    return install


def test_each_sanitizer_has_a_row_and_faults_do_not_hold(module, options, fake):
    fake(
        "compute-sanitizer", f"print({HAZARDS!r} if 'racecheck' in sys.argv else {CLEAN!r}); sys.exit(86 if 'racecheck' in sys.argv else 0)"
    )
    rows = list(module("gpu_tools").sanitizer(options))
    assert [(row["what"], row["holds"], row["faults"]) for row in rows] == [
        ("memcheck", True, 0),
        ("racecheck", False, 1),
        ("initcheck", True, 0),
        ("synccheck", True, 0),
    ]
    assert "1 faults; Warning: Race reported" in rows[1]["why"]
    assert "| memcheck | 2 | 0 |" in module("gpu_tables").of(6, rows)


def test_a_sanitizer_that_sees_nothing_or_says_nothing_does_not_hold(module, options, fake):
    fake("compute-sanitizer", "print('========= ERROR SUMMARY: 0 errors')")
    assert {row["why"] for row in module("gpu_tools").sanitizer(options)} == {"it launched no kernel"}
    fake("compute-sanitizer", "sys.exit('Device not supported')")
    assert {row["why"] for row in module("gpu_tools").sanitizer(options)} == {"Device not supported"}
    fake("compute-sanitizer", "time.sleep(600)")
    options.until = time.monotonic() + 1
    assert {row["why"] for row in module("gpu_tools").sanitizer(options)} == {"the section's time was over before it was done"}


def test_tools_that_are_not_there_are_a_line(module, options, monkeypatch):
    tools = module("gpu_tools")
    monkeypatch.setattr(tools.shutil, "which", lambda name: None)
    monkeypatch.setattr(tools, "PLACES", ())
    (row,) = tools.sanitizer(options)
    assert "compute-sanitizer is not on the path" in row["note"]
    (row,) = tools.profile(options)
    assert "ncu (Nsight Compute) is not on the path" in row["note"]


# --- 7: Nsight Compute -------------------------------------------------------------------------------------------------------------


def csv_of(*kernels):
    """What `ncu --csv --page raw` prints of {metric: (unit, value)}."""
    names = list(kernels[0])
    lines = [["ID", "Kernel Name", *names], ["", "", *(kernels[0][name][0] for name in names)]]
    lines += [[str(i), f"kernel{i}(const float *, int)", *(kernel[name][1] for name in names)] for i, kernel in enumerate(kernels)]
    quoted = "\n".join(",".join(f'"{cell}"' for cell in line) for line in lines)
    return f'==PROF== Connected to process 7\n["a", "b"]\n==PROF== Disconnected from process 7\n{quoted}\n'


KERNEL = {
    "gpu__time_duration.sum": ("us", "12.50"),
    "sm__warps_active.avg.pct_of_peak_sustained_active": ("%", "23.4"),
    "sm__maximum_warps_per_active_cycle_pct": ("%", "25"),
    "launch__waves_per_multiprocessor": ("", "2.5"),
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": ("%", "41"),
    "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed": ("%", "35"),
    "launch__occupancy_limit_registers": ("block", "2"),
    "launch__occupancy_limit_shared_mem": ("block", "6"),
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum": ("", "3,000"),
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum": ("", "4,000"),
    "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum": ("sector", "1,600"),
    "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum": ("", "100"),
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio": ("inst", "4.5"),
    "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio": ("inst", "0.5"),
    "smsp__average_warps_issue_stalled_selected_per_issue_active.ratio": ("inst", "9"),
}


def test_the_figures_of_a_profile(module):
    tools = module("gpu_tools")
    (row,) = map(tools.reading, tools.kernels_of_csv(csv_of(KERNEL)))
    assert (row["kernel"], row["microseconds"], row["occupancy"]) == ("kernel0", 12.5, 23.4)
    assert (row["bank_conflicts_stores"], row["sectors_a_request_loads"]) == (0.75, 16.0)
    assert row["bank_conflicts_loads"] is None  # nobody measured it
    assert row["occupancy_limit"] == "registers"
    assert row["stalls"] == {"long_scoreboard": 4.5, "barrier": 0.5}
    assert row["limited_by"] == "latency: long_scoreboard"
    json.dumps(row, allow_nan=False)
    assert "| kernel0 | 12.5 | 23% | 25% | registers | -, 75% | 16.0, - | 41% | 35% | latency: long_scoreboard |" in module(
        "gpu_tables"
    ).of(7, [row])
    of = {"sm__throughput.avg.pct_of_peak_sustained_elapsed": ("%", "88"), "gpu__time_duration.sum": ("ns", "12,500")}
    (row,) = map(tools.reading, tools.kernels_of_csv(csv_of(KERNEL | of)))
    assert (row["limited_by"], row["microseconds"]) == ("compute", 12.5)
    (row,) = map(tools.reading, tools.kernels_of_csv(csv_of(KERNEL | {"launch__waves_per_multiprocessor": ("", "0.12")})))
    assert row["limited_by"] == "a grid of 0.12 waves"
    assert tools.kernels_of_csv("==ERROR== ERR_NVGPUCTRPERM\n") == []


def test_a_metric_that_ncu_does_not_know_is_left_out(module, options, fake):
    tools = module("gpu_tools")
    unknown = tools.NCU_METRICS[3]
    fake(
        "ncu",
        f"if {unknown!r} in ' '.join(sys.argv): sys.exit('==ERROR== Failed to find metric {unknown}')\nprint({csv_of(KERNEL, KERNEL)!r})",
    )
    note, *rows = tools.profile(options)
    assert note["note"] == f"ncu does not know {unknown}; once more without"
    assert [row["kernel"] for row in rows] == ["kernel0", "kernel1"]


def test_a_profiler_that_may_not_count_is_said(module, options, fake):
    fake("ncu", "sys.exit('==ERROR== ERR_NVGPUCTRPERM - The user does not have permission')")
    (row,) = module("gpu_tools").profile(options)
    assert row["failed"] == "ncu"
    assert "ERR_NVGPUCTRPERM" in row["why"]


def test_the_costliest_kernels_are_those_of_section_5(module, tmp_path):
    rows = [
        {"section": "kernels", "workload": w, "kernel": k, "precision": "fp32", "launches": n, "microseconds": us}
        for w, k, n, us in [("conv", "a", 1, 9.0), ("burgess", "a", 2, 9.0), ("conv", "b", 3, 4.0), ("conv", "c", 1, 1.0)]
    ]
    rows.append(rows[0] | {"kernel": "d", "precision": "tf32", "microseconds": 99.0})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"section": "kernels", "half')
    found = module("gpu_sections").costliest_before(argparse.Namespace(out=tmp_path), 2)
    assert [(row["workload"], row["kernel"]) for row in found] == [("burgess", "a"), ("conv", "b")]
