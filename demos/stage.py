"""What every demo shares: its command line, the digits, training with a bar, and claims that may fail."""

import argparse
import bz2
import gzip
import lzma
import re
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from minivae import Adam, Stream, Tensor, data, gradients, training
from minivae.models import describe
from minivae.plots.bars import draw_stacked_bars
from minivae.plots.layout import INK, SMALL, TEXT, TITLE
from minivae.runs import checkpoint
from minivae.runs.saved import describe_objective

SAVE_EVERY = 30.0  # seconds of a training that is kept


def options(doc: str) -> Namespace:
    """--tiny, --full, --out DIR, --seed N and --data-dir DIR; the first line of `doc` says what the demo is."""
    parser = argparse.ArgumentParser(description=doc.strip().partition("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--tiny", action="store_true", help="seconds instead of minutes: the claims are held to weaker limits")
    size.add_argument("--full", action="store_true", help="the real thing")
    parser.add_argument("--out", type=Path, default=Path("."), help="the folder for the figures (default: this one)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    parser.add_argument("--data-dir", type=Path, help="the folder with MNIST, for --full; of faces: your photographs")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    return asked


def pick(asked: Namespace, tiny: Any, usual: Any, full: Any) -> Any:
    """The setting of the size that was asked for."""
    return tiny if asked.tiny else full if asked.full else usual


def digits(asked: Namespace) -> data.Dataset:
    """5,000 real digits; all of MNIST with --full."""
    return data.load("mnist", asked.data_dir) if asked.full else data.load("digits5k")


def kept(asked: Namespace, name: str) -> Path | None:
    """Where a training with --full keeps its state, in --out: one that was cut goes on, and one that is done is not made again."""
    return asked.out / f"{re.sub(r'[^a-zA-Z0-9.]+', '-', name)}-seed{asked.seed}.npz" if asked.full else None


def train(
    model: Any,
    images: np.ndarray | Callable[[int], tuple[np.ndarray, np.ndarray]],
    epochs: int,
    labels: np.ndarray | None = None,
    objective: Any = None,
    name: str = "training",
    file: Path | None = None,
    **settings: Any,
) -> list[dict[str, float]]:
    """Train for some epochs, with a bar; settings are those of a TrainingConfig.  Returns what each epoch reports.

    images    of every epoch; or a function of the epochs done that gives those of the next, with their labels
    file      where the state is written from time to time and at the end; training goes on from the state of an equal one that is there
    """
    trainer = training.Trainer(model, training.TrainingConfig(epochs=epochs, **settings), objective)
    told = {"model": describe(model), "objective": describe_objective(trainer.objective)} if file else {}
    if file is not None and file.exists():
        arrays, metadata = checkpoint.load(file)
        if (told | {"training": asdict(trainer.config)}).items() <= metadata.items():
            trainer.load_state(arrays, metadata)
        else:
            print(f"{file} is of another training, and is made anew")
    bar = tqdm(range(trainer.epochs_done, epochs), desc=name, unit="epoch", leave=False, delay=2)
    reports, saved = [], time.monotonic()
    for done in bar:
        reports.append(trainer.epoch(*images(done)) if callable(images) else trainer.epoch(images, labels))
        bar.set_postfix(loss=f"{reports[-1]['loss']:.1f}", refresh=False)
        if file is not None and (done + 1 == epochs or time.monotonic() >= saved + SAVE_EVERY):
            arrays, metadata = trainer.state()
            checkpoint.save(file, arrays, metadata | told)
            saved = time.monotonic()
    return reports


def fit(
    net: Any, log_prob: Callable[[Any], Tensor], size: int, epochs: int, rng: Stream, lr: float = 1e-3, weight_decay: float = 0.0
) -> None:
    """Train a network that is no VAE: Adam on -mean log_prob(at), nats, `at` the places of a batch of 100 of `size` examples."""
    params = net.parameters()
    optimizer = Adam(params, lr, weight_decay=weight_decay)
    for _ in tqdm(range(epochs), desc="a network", unit="epoch", leave=False, delay=2):
        for at in data.batch_indices(size, 100, rng):
            optimizer.step(gradients(-log_prob(at).mean(), params))


def save(figure: Figure, file: Path) -> None:
    """Write a figure, and say so; a notebook shows it."""
    figure.savefig(file, dpi=150)
    print(f"wrote {file}")
    python = sys.modules.get("IPython")
    if python and python.get_ipython():
        python.display.display(python.display.Image(str(file)))


def bars_of_a_file(parts: dict[str, float], model: float, others: dict[str, float], title: str) -> Figure:
    """What a file consists of beside the files of others, and, on an axis of its own, with the model that its reader needs; kilobytes."""
    figure = Figure(figsize=(8.4, 4), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(1 + len(others), 1.4))
    columns = {name: np.array([part, *[0.0] * len(others)]) for name, part in parts.items()}
    columns["others"] = np.array([0.0, *others.values()])
    draw_stacked_bars(left, ["bits back", *others], columns)
    draw_stacked_bars(
        right, ["with its model"], {name: np.array([part]) for name, part in (parts | {"others": 0.0, "model": model}).items()}
    )
    left.set_ylabel("kilobytes", fontsize=TEXT, color=INK)
    figure.suptitle(title, fontsize=TITLE, color=INK)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=SMALL, frameon=False)
    return figure


def compressed(raw: bytes) -> dict[str, int]:
    """Bytes that the general compressors make of these, each at its best."""
    return {
        "gzip -9": len(gzip.compress(raw, 9)),
        "bzip2 -9": len(bz2.compress(raw, 9)),
        "lzma -9e": len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)),
    }


def claim(text: str, holds: bool) -> None:
    """Print a claim of the demo, with its numbers; one that does not hold ends the program."""
    print(f"{'holds' if holds else 'FAILS'}: {text}")
    if not holds:
        raise SystemExit(f"the claim does not hold: {text}")
