"""What each kernel of a replayed step should take on an H200, before anybody has measured it: the first measurement judges this model too.

    python benchmarks/gpu_predicted.py [--nodes] [WORKLOAD ...]

A step is captured on the stand-in for CuPy; of a launch are known its blocks, its operations and the bytes that it moves.

    microseconds = NODE + max(operations / (peak share filled), bytes / bandwidth)

operations  of its tiles, padding included
share     of multiply-adds among the instructions of the loop over K, from the machine code (gpu_code.py): no product is faster
filled    of the multiprocessors, by the last wave: blocks / (132 waves), a block on each in a wave
NODE      between two nodes of a graph

Left out is what only a GPU tells: waiting for memory, occupancy, caches that make small arrays cheaper.  FP32.
"""

import argparse
import math
import tempfile
from pathlib import Path
from typing import Any

import gpu_dry
from gpu_kernels import H200, operations, peaks_of, traffic, watched
from workloads import ALL

from minivae.kernels.gpu import conv
from minivae.kernels.gpu.launcher import Kernel

NODE = 2.0  # microseconds: a guess
# the least share of a kernel's loops that read four numbers at once, and of those that read one: gpu_code.py, sm_90, FP32
SHARES = {
    "dense128_gradients": (0.85, 0.75),
    "dense64_gradients": (0.73, 0.60),
    "gemm128_nn": (0.87, 0.84),
    "gemm128_nt": (0.87, 0.81),
    "gemm128_tn": (0.87, 0.87),
    "gemm64_nn": (0.79, 0.75),
    "gemm64_nt": (0.79, 0.69),
    "gemm64_tn": (0.77, 0.76),
    "gemm_batch_nn": (0.79, 0.75),
    "gemm_batch_nt": (0.79, 0.71),
    "gemm_batch_tn": (0.77, 0.76),
    "conv16_forward": (0.57, 0.36),
    "conv16_weights": (0.59, 0.36),
    "conv32_forward": (0.65, 0.48),
    "conv32_input": (0.64, 0.46),
    "conv32_weights": (0.66, 0.48),
    "conv64_forward": (0.71, 0.58),
    "conv64_input": (0.70, 0.55),
    "conv64_weights": (0.71, 0.59),
    "fold_input": (0.59, 0.43),
    "few_weights": (0.57, 0.49),
}


def reads_four(name: str, given: dict[str, Any]) -> bool:
    """Whether lines of memory begin at multiples of 16 bytes."""
    if "geometry" in given:
        s = given["geometry"]
        return (s.O if name.startswith(("fold", "few")) or "_input" in name else s.C | s.O) % 4 == 0
    if name.startswith("dense"):
        return (given["I"] | given["O"]) % 4 == 0
    return {"nn": given["K"] | given["N"], "nt": given["K"], "tn": given["M"] | given["N"]}[name.split("_")[-1]] % 4 == 0


def tiled(name: str, given: dict[str, Any]) -> float:
    """Multiplications and additions of a product's tiles, filled or not."""
    up, kind = conv.round_up, name.partition("_")[0]
    if kind == "gemm":
        kind = "gemm64"
        given = {**given, "M": given["M"] * given["batch"].count}
    if kind.startswith("gemm"):
        tile = int(kind[4:])
        return 2.0 * up(given["M"], tile) * up(given["N"], tile) * given["K"]
    if kind.startswith("dense"):
        tile, N, I, O = int(kind[5:]), given["N"], given["I"], given["O"]
        of_x, of_w = up(N, tile) * up(I, tile) * O, up(I, tile) * up(O, tile) * N
        return 2.0 * (of_x * (given["gx"] is not None) + of_w * (given["gw"] is not None))
    s = given["geometry"]
    if given.get("gw", s) is None:
        return 0.0
    if kind == "few":
        return 2.0 * up(s.taps, conv.FEW_TAPS) * up(s.O, conv.FEW_CHANNELS) * up(s.outputs, conv.FEW_PIXELS)
    if kind == "fold":
        return 2.0 * s.fold_blocks * s.strips * conv.FOLD_ROWS * up(s.taps, conv.FOLD_TAPS) * s.O
    columns = int(kind[4:])
    rows = conv.ROWS[columns]
    if name.endswith("input"):
        return 2.0 * up(s.pixels, rows) * up(s.C, columns) * s.w_shape[0] * s.w_shape[1] * s.O
    if name.endswith("weights"):
        return 2.0 * up(s.taps, rows) * up(s.O, columns) * s.outputs
    return 2.0 * up(s.outputs, rows) * up(s.O, columns) * s.taps


def predicted(kernel: Kernel, arguments: tuple, peaks: dict[str, float]) -> dict[str, Any]:
    """What is known of a launch, and its microseconds."""
    given = dict(zip([p.name for p in kernel.parameters], arguments, strict=True))
    work, moved, blocks = operations(kernel.name, given), traffic(kernel, given), math.prod(kernel.plan(*arguments)[0])
    units = H200["MultiProcessorCount"]
    filled = blocks / (units * math.ceil(blocks / units)) if blocks else 1.0
    name = kernel.name.removesuffix("_fp32")
    share = SHARES[name][not reads_four(name, given)] if work else 1.0
    by_work, by_bytes = (tiled(name, given) if work else 0.0) / (peaks["fp32"] * share * filled), moved / peaks["bandwidth"]
    bound = "multiply-adds" if by_work > by_bytes else "memory"
    return {
        "kernel": kernel.name,
        "blocks": blocks,
        "megaflop": work / 1e6,
        "megabyte": moved / 1e6,
        "bound": bound if 1e6 * max(by_work, by_bytes) > NODE else "launch",
        "microseconds": NODE + 1e6 * max(by_work, by_bytes),
    }


def step_of(cupy: Any, name: str) -> list[dict[str, Any]]:
    """The launches of a captured training step, in their order."""
    from tests.gpu.host.nodes import captured_nodes

    with watched() as calls:
        captured_nodes(cupy, ALL[name])
    peaks = peaks_of(H200, "90")
    return [predicted(kernel, arguments, peaks) for kernel, arguments in calls]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", action="store_true", help="a line for each node as well")
    parser.add_argument("workloads", metavar="WORKLOAD", nargs="*", default=["mlp", "iwae1", "iwae50", "conv", "burgess"])
    asked = parser.parse_args()
    cupy = gpu_dry.install(argparse.Namespace(out=Path(tempfile.mkdtemp())))
    for name in asked.workloads:
        rows = step_of(cupy, name)
        total, launch = sum(row["microseconds"] for row in rows), NODE * len(rows)
        bound = {of: sum(row["microseconds"] - NODE for row in rows if row["bound"] == of) for of in ("multiply-adds", "memory", "launch")}
        told = ", ".join(f"{value:.1f} {of}" for of, value in bound.items())
        print(f"{name}: {total:.0f} us a step, {launch:.0f} of them for {len(rows)} nodes; in kernels bound by {told}", flush=True)
        for row in rows if asked.nodes else ():
            print(
                f"    {row['kernel']:28s}{row['blocks']:7d} blocks {row['megaflop']:9.2f} MFLOP {row['megabyte']:8.3f} MB"
                f"{row['microseconds']:8.1f} us  {row['bound']}"
            )


if __name__ == "__main__":
    main()
