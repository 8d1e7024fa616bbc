"""Section 2 of gpu.py: a short training on a GPU, eager and as a graph, against the losses of the same training on a CPU.

The digits are gpu_digits.npz, the first 512 training images of digits5k; the losses of the CPU, gpu_losses.json, come from
`python gpu.py --store`.  The same seed gives the same initial weights, order and noise; what differs is rounding alone, which a training
amplifies.  How far, the stored file says: it has the losses of a float64 run with the float32 run's noise, exact to what matters here, and
how far from them, by epoch, the farthest of RUNS + 1 float32 runs lies: one as it is, and RUNS whose initial weights are moved by one unit
in their last place up, down or not at all, and whose noise by as much as a GPU's normal numbers may differ from the CPU's
(tests/gpu/test_step.py derives it).  A GPU's loss may be off the exact one by at most

    MARGIN times the farthest,  and at least sqrt(784) 2^-24 of the loss,

which is what adding up the pixels in another order gives as a rule.  A GPU that is right is one more such run; MARGIN is for the few that
are farther, where a unit switches over in one run and not in another.  TF32 is shown, not judged.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import minivae as mv
from minivae.backend import set_backend
from minivae.training.graph import DeviceEpochs

HERE = Path(__file__).resolve().parent
DIGITS, LOSSES = HERE / "gpu_digits.npz", HERE / "gpu_losses.json"
MARGIN, RUNS = 8.0, 8
NORMALS = 5.8 * (8 + 2 * math.pi) * 2.0**-24  # a GPU's normal numbers are within this of the CPU's
FLOOR = math.sqrt(784) * 2.0**-24
SMALL = 64  # images of a dry run, each shrunk to 7 x 7
# name: (what builds the model, of a dry run; what builds it, of a real one)
STORIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dense": ({"hidden": (8,), "latent": 2}, {"hidden": (400,), "latent": 20}),
    "conv": ({"arch": "conv", "channels": (3,), "hidden": (8,), "latent": 2}, {"arch": "conv", "hidden": (256,), "latent": 20}),
}


def setting(dry: bool) -> mv.TrainingConfig:
    if dry:
        return mv.TrainingConfig(epochs=3, batch_size=16, lr=1e-2, seed=1)
    return mv.TrainingConfig(epochs=3, batch_size=64, seed=1)


def digits(dry: bool) -> np.ndarray:
    """(512, 28, 28, 1) bytes, or a few of them, small."""
    images = np.load(DIGITS)["images"]
    if not dry:
        return images
    small = images[:SMALL, :, :, 0].reshape(SMALL, 7, 4, 7, 4).astype(float).mean((2, 4))
    return np.rint(np.pad(small, ((0, 0), (0, 1), (0, 1)))).astype(np.uint8)[..., None]  # (N, 8, 8, 1)


def build(story: str, dry: bool) -> mv.VAE:
    return mv.VAE(digits(dry).shape[1:], mv.Stream(1), **STORIES[story][0 if dry else 1])


def train(model: mv.VAE, dry: bool, graph: bool = True, noise: mv.Stream | None = None, **changed: Any) -> tuple[list[dict], mv.Trainer]:
    """The measures of each epoch, and who trained."""
    trainer = mv.Trainer(model, replace(setting(dry), **changed))
    trainer.noise = noise or trainer.noise
    if not graph:
        trainer.on_gpu = DeviceEpochs(trainer)
        trainer.on_gpu.refused = lambda: "it is to be eager"
    images = digits(dry)
    return [trainer.epoch(images) for _ in range(trainer.config.epochs)], trainer


# --- on a CPU ----------------------------------------------------------------------------------------------------------------------


class Noise(mv.Stream):
    """Normal numbers of a float32 stream, for a model of any precision; moved by up to NORMALS, always in the same way for a `mover`."""

    mover: int | None = None

    def _normal(self, shape: tuple[int, ...], like: Any) -> Any:
        place = self.counter
        numbers = super()._normal(shape, None)
        if self.mover is not None:
            moves = np.random.default_rng((self.mover, place)).uniform(-NORMALS, NORMALS, shape)
            numbers = (numbers + moves).astype(np.float32)
        return numbers if like is None else numbers.astype(like.dtype)


def moved(model: mv.VAE, mover: int) -> mv.VAE:
    """Each weight a unit of its last place up, down, or where it was."""
    rng = np.random.default_rng(mover)
    for p in model.parameters():
        step = rng.integers(-1, 2, p.shape).astype(np.float32)
        p.data[...] = np.where(step == 0, p.data, np.nextafter(p.data, np.copysign(np.float32(np.inf), step)))
    return model


def exact(model: mv.VAE) -> mv.VAE:
    """The same model with float64 weights."""
    for p in model.parameters():
        p.data = p.data.astype(np.float64)
    return model


def stored(story: str, dry: bool) -> dict[str, Any]:
    """What is kept of a training on a CPU: the exact losses by epoch, those in float32, and the distance of the farthest run."""

    def losses(model: mv.VAE, mover: int | None = None) -> list[float]:
        noise = Noise(0)
        noise.mover = mover
        return [m["loss"] for m in train(model, dry, noise=noise)[0]]

    truth, own = losses(exact(build(story, dry))), losses(build(story, dry))
    every = [own, *(losses(moved(build(story, dry), mover), mover) for mover in range(RUNS))]
    return {"float64": truth, "float32": own, "farthest": [max(abs(run[e] / truth[e] - 1) for run in every) for e in range(len(truth))]}


def store() -> None:
    """Train on this CPU, and write gpu_losses.json; and gpu_digits.npz where it is missing."""
    if not DIGITS.exists():
        data = mv.data.load("digits5k")
        np.savez_compressed(DIGITS, images=data.train_images[:512])
    found = {story: {"dry": stored(story, True), "real": stored(story, False)} for story in STORIES}
    LOSSES.write_text(json.dumps(found, indent=1) + "\n")
    for story, both in found.items():
        print(f"{story}: {both['real']['float64'][-1]:.6f} nats an image; float32 within {max(both['real']['farthest']):.1e} of it")


# --- on a GPU ----------------------------------------------------------------------------------------------------------------------


def bounds(kept: dict[str, Any]) -> list[float]:
    """Of the relative distance from the float64 loss, by epoch."""
    return [max(MARGIN * far, FLOOR) for far in kept["farthest"]]


def judged(kept: dict[str, Any], measures: list[dict[str, float]]) -> dict[str, Any]:
    """{"worst", "bound", "epoch", "holds"}: at the epoch that comes nearest to its bound, or furthest beyond it."""
    off = [abs(m["loss"] / truth - 1) if math.isfinite(m["loss"]) else math.inf for m, truth in zip(measures, kept["float64"], strict=True)]
    limits = bounds(kept)
    epoch = max(range(len(off)), key=lambda e: off[e] / limits[e])
    holds = all(distance <= limit for distance, limit in zip(off, limits, strict=True))
    return {"worst": off[epoch], "bound": limits[epoch], "epoch": epoch + 1, "holds": holds}


def training(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from gpu_sections import attempt

    kept = json.loads(LOSSES.read_text())
    set_backend("numpy")  # the CPU draws an order and no more
    for story in STORIES:
        yield from attempt(f"training {story}", lambda story=story: of_story(story, kept[story], options))


def of_story(story: str, kept: dict[str, Any], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    dry = options.dry_run
    kept = kept["dry" if dry else "real"]
    found = {}
    for how in ("eager", "graph", "graph, TF32"):
        start = time.perf_counter()
        changed = {"precision": "tf32"} if how.endswith("TF32") else {}
        measures, trainer = train(build(story, dry).to("cuda"), dry, graph=how != "eager", **changed)
        found[how] = measures
        row = {"what": f"{story}, {how}", "losses": [m["loss"] for m in measures], "exact": kept["float64"]}
        row |= {"seconds": time.perf_counter() - start} | judged(kept, measures)
        if changed:
            row["holds"] = None  # products of 10 bits are another training
        why = trainer.on_gpu.why_eager
        if how != "eager" and (not trainer.on_gpu.graphs or why):
            row |= {"holds": False, "why": f"the step is no graph: {why}"}
        yield row
    same = found["eager"] == found["graph"]
    yield {"what": f"{story}: eager and graph, bit for bit", "holds": same, "why": "" if same else "their measures differ"}
