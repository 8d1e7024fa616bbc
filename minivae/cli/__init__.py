"""The command line: the only place that parses, prints and chooses files."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..applications import SCORES
from ..backend import BACKENDS, PRECISIONS, gpu, set_backend
from ..data import NAMES
from ..errors import MinivaeError, UsageError
from ..models import ARCHITECTURES, FLOWS, HEADS, LIKELIHOODS, MODELS, PRIORS
from ..nn import ACTIVATIONS
from ..objectives import OBJECTIVES
from ..training import OPTIMIZERS, TrainingConfig
from ..training.schedules import SCHEDULES
from ..version import VERSION
from . import bench, compress, explore, info, look, proof, restore, score, train

EPILOG = """examples:
  minivae train mnist --latent 2 --out runs/map          a map of the digits and its manifold
  minivae train faces/ --arch conv --likelihood gaussian your own folder of PNG or JPEG images
  minivae train mnist --model cvae; minivae sample runs/mnist-cvae-dense-z20 --label 3
  minivae resume runs/map --epochs 40                    go on where it stopped
  minivae sample runs/map                                new images from the prior
"""


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Appends the default to an option's help, where there is one and the text does not say it."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or "default" in (action.help or "")
        return action.help if silent else super()._get_help_string(action)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.  Returns 0, 2 after an error that the user can mend (one sentence on stderr), or 130 after Ctrl-C."""
    options = parser().parse_args(arguments)
    try:
        device = choose_backend(options)
        options.run(options, device)
    except MinivaeError as error:
        print(f"minivae: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        sentence = out_of_memory(error)
        if not sentence:
            raise
        print(f"minivae: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        folder = getattr(options, "saved", None)
        print(f"minivae: interrupted{f'; continue with: minivae resume {folder}' if folder else ''}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # minivae info | head
        sys.stderr.close()
        return 0
    return 0


def out_of_memory(error: Exception) -> str:
    """The sentence, if that is what the error says; CuPy has one class for its pool, and others for the driver and the runtime."""
    if type(error).__module__.startswith("cupy") and ("MEMORY" in str(error).upper()):
        return f"the GPU is out of memory: {' '.join(str(error).split())}; use a smaller batch or model, or --device cpu"
    return f"the computer is out of memory: {error}; use a smaller batch or model" if isinstance(error, MemoryError) else ""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="minivae",
        description="Train variational autoencoders, look at them, and go on training.\n"
        "A run is a folder: config.json, metrics.jsonl (a line an epoch, in nats per image), model.npz, figures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"minivae {VERSION}")
    subcommands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Any, help: str, *shared: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub = subcommands.add_parser(name, help=help, description=help, parents=list(shared), formatter_class=Formatter)
        sub.set_defaults(run=run)
        return sub

    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--backend", choices=BACKENDS, help="kernels: numpy (references), numba (compiled, the CPU's default), cupy (GPU)")
    where.add_argument("--device", choices=("cpu", "cuda"), help="where to compute; default: where a run was trained; for a coder, the CPU")
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument("--data-dir", metavar="DIR", help="folder with the data set's files; default: $MINIVAE_DATA, the cache, a download")
    of_run = argparse.ArgumentParser(add_help=False)
    of_run.add_argument("folder", metavar="RUN", type=Path, help="folder of a run")
    seed = argparse.ArgumentParser(add_help=False)
    seed.add_argument("--seed", type=int, default=0, help="the same seed draws the same numbers")
    picture = argparse.ArgumentParser(add_help=False)
    picture.add_argument("--out", metavar="PNG", type=Path, help="picture to write; default: in the run's folder")

    p = command("train", train.train_command, "train a VAE, or another model, on a data set", where, source, seed)
    p.add_argument(
        "dataset",
        metavar="DATASET",
        nargs="?",
        default="auto",
        help=f"{', '.join(NAMES)}; a folder of image files; an .npy, .npz or .csv file; IDX or CIFAR-10 files; auto: mnist if it is there",
    )
    group = p.add_argument_group("data of your own")
    group.add_argument("--size", type=int, metavar="PIXELS", help="resize the shorter side of images to it, and cut out the centre")
    kinds = group.add_mutually_exclusive_group()
    kinds.add_argument("--gray", dest="mode", action="store_const", const="gray", help="make images gray")
    kinds.add_argument("--rgb", dest="mode", action="store_const", const="rgb", help="make images coloured")
    group.add_argument("--background", metavar="COLOUR", help="what transparent pixels lie on: white, #ffcc00")
    group.add_argument("--standardize", action="store_true", help="columns of vectors less their mean, over their standard deviation")
    group.add_argument("--label-column", metavar="NAME", help="the column of a table that is the class")
    defaults = TrainingConfig()
    p.add_argument(
        "--out", metavar="RUN", type=Path, help="folder for the run; default: runs/DATASET-ARCH-zLATENT, with what else was chosen"
    )
    p.add_argument("--epochs", type=int, default=defaults.epochs, help="passes over the training images")
    p.add_argument("--batch-size", type=int, default=defaults.batch_size, help="images a step")
    p.add_argument("--binarize", action="store_true", help="draw pixels 0 or 1 anew each epoch")
    group = p.add_argument_group("model")
    group.add_argument(
        "--model",
        type=train.model_name,
        choices=list(MODELS),
        metavar="NAME",
        default="vae",
        help=f"{', '.join(MODELS)}: a cvae takes labels for a condition, a vamp has a mixture for a prior, a gan no encoder; default: vae",
    )
    group.add_argument(
        "--arch", choices=(*ARCHITECTURES, "unet"), help="networks; gru and lstm read rows, unet is a diffusion's; default: dense"
    )
    group.add_argument("--hidden", type=int, nargs="*", metavar="UNITS", help="layers of the encoder; default: 400, else 256; gan: 512 256")
    group.add_argument("--channels", type=int, nargs="+", metavar="C", help="conv layers of the encoder; default: down to 4 to 7 pixels")
    group.add_argument("--latent", type=int, help="length of the latent vector z; default: 20, hierarchical 30, gan 64")
    group.add_argument("--activation", choices=[a for a in ACTIVATIONS if a], help="nonlinearity between layers; default: relu")
    group.add_argument(
        "--likelihood", choices=LIKELIHOODS, metavar="NAME", help=f"p(x|z) of a pixel: {', '.join(LIKELIHOODS)}; default: bernoulli"
    )
    group.add_argument("--head", choices=HEADS, help="what the encoder predicts beside the mean; default: logvar")
    group.add_argument("--prior", dest="prior_kind", choices=PRIORS, help="of a cvae: N(0, I), or p(z|c) learned; default: fixed")
    group.add_argument("--top", type=int, metavar="K", help="of a hierarchical model: latents of the upper layer; default: a third")
    group.add_argument("--pseudo", type=int, metavar="M", help="of a vamp or hierarchical_vamp: what the prior is made of; default: 100")
    group.add_argument("--flow", choices=FLOWS, help="of a flow: the maps that bend q(z|x); default: planar")
    group.add_argument("--flow-layers", type=int, metavar="L", help="of a flow: how many maps; default: 4")
    group.add_argument("--groups", type=int, help="of a vq: vectors that a code is of; default: of 4 numbers each")
    group.add_argument("--entries", type=int, help="of a vq: vectors in its book; default: 64")
    group = p.add_argument_group("objective and optimizer")
    group.add_argument(
        "--objective",
        choices=list(OBJECTIVES),
        metavar="NAME",
        help=f"what is minimised: {', '.join(OBJECTIVES)}; default: elbo, and what a gan or a diffusion is trained by",
    )
    for name, users in settings().items():
        f = users[0][1]
        defaults_of = ", ".join(f"{shown} {u.default if isinstance(u.default, str) else format(u.default, 'g')}" for shown, u in users)
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(f.default),
            choices=f.metadata["choices"],
            metavar=f.metadata["metavar"],
            help=f"{f.metadata['help']}; default: {defaults_of}",
        )
    group.add_argument("--optimizer", choices=list(OPTIMIZERS), default=defaults.optimizer, help="update rule")
    group.add_argument("--lr", type=float, default=defaults.lr, help="learning rate")
    group.add_argument("--lr-schedule", choices=SCHEDULES, default=defaults.lr_schedule, help="course of the learning rate")
    group.add_argument("--lr-warmup", type=float, default=defaults.lr_warmup, metavar="EPOCHS", help="it rises from 0 over so many epochs")
    group.add_argument("--precision", choices=PRECISIONS, default=defaults.precision, help="of a GPU's products; tf32: on tensor cores")
    group.add_argument("--clip", type=float, metavar="NORM", help="largest norm of the gradient; default: no limit")

    p = command(
        "score", score.score_command, "say how strange images are to a run: a number and a rank for each", of_run, where, source, seed
    )
    add_images(p)
    p.add_argument("--score", choices=list(SCORES), help="default: less_floor of a Bernoulli, else elbo; see the page on anomalies")
    p.add_argument("--samples", type=int, default=10, help="draws of z an image")
    p.add_argument("--count", type=int, default=40, help="the strangest to draw, and to print")
    p.add_argument("--out", metavar="PNG", type=Path, help="sheet of the strangest; the table lies beside it; default: in the run's folder")

    for name, run, what in (
        ("denoise", restore.denoise_command, "the images behind noisy ones: the mean of what a run thinks possible, and draws of it"),
        ("inpaint", restore.inpaint_command, "pixels that are missing, from the others: the mean of what a run thinks possible, and draws"),
    ):
        p = command(name, run, what, of_run, where, source, seed)
        add_images(p)
        if name == "denoise":
            p.add_argument("--sigma", type=float, help="standard deviation of the noise, white is 1; default: measured")
            p.add_argument("--add-noise", type=float, metavar="SIGMA", help="make the images noisy first, and judge what comes out by them")
        else:
            p.add_argument("--mask", required=True, help=restore.MASK)
            p.add_argument("--judge", action="store_true", help="the images are whole: print the error under the mask")
        p.add_argument("--draws", type=int, default=5, help="images to draw for each, beside the mean")
        p.add_argument("--samples", type=int, default=200, help="importance samples an image")
        p.add_argument("--count", type=int, default=100, help="the first so many images")
        p.add_argument("--out", metavar="PNG", type=Path, help="sheet; the numbers lie beside it as .npz; default: in the run's folder")

    p = command("resume", train.resume_command, "continue a run from its last checkpoint", of_run, where, source)
    p.add_argument("--epochs", type=int, help="new total number of epochs; default: as the run was started")
    p.add_argument("--lr", type=float, help="learning rate from now on; default: as the run was started")
    p.add_argument("--precision", choices=PRECISIONS, help="of a GPU's products from now on; default: as the run was started")

    p = command("reconstruct", look.reconstruct_command, "draw test images beside their reconstructions", of_run, where, source, picture)
    p.add_argument("--count", type=int, default=20, help="number of images")
    p = command("sample", look.sample_command, "draw new images from the prior", of_run, where, seed, picture)
    p.add_argument("--count", type=int, default=100, help="number of images")
    p.add_argument("--label", type=int, help="of a cvae: what to draw; default: each label in turn")
    p = command(
        "interpolate",
        look.interpolate_command,
        "draw straight lines in latent space between pairs of test images",
        of_run,
        where,
        source,
        seed,
        picture,
    )
    p.add_argument("--count", type=int, default=6, help="number of pairs")
    p.add_argument("--steps", type=int, default=11, help="images from one end to the other")
    p = command(
        "evaluate", look.evaluate_command, "print the losses on the test images, and a bound on log p(x)", of_run, where, source, seed
    )
    p.add_argument("--samples", type=int, default=100, help="importance samples an image for the bound on log p(x)")
    p.add_argument("--count", type=int, default=1000, help="test images for that bound")
    p = command(
        "gradcheck",
        proof.gradcheck_command,
        "check the gradient of a run's loss, or of a function of yours, by three independent estimates, and draw their V-curve",
        where,
        source,
        seed,
        picture,
    )
    p.add_argument(
        "folder",
        metavar="RUN|FILE.py:NAME",
        type=Path,
        help="folder of a run; or a Python file and a function NAME() in it that returns (f, inputs), or (f, inputs, gradient)",
    )
    p = command("explore", explore.explore_command, "make a page on which a run's latent space can be touched, and open it")
    p.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="folder of a run; several on the same data get a slider")
    p.add_argument("--out", metavar="FILE", type=Path, help="the page; default: explorer.html in the first run's folder")
    p.add_argument("--serve", action="store_true", help="instead, show the run on 127.0.0.1 as it is trained")
    p.add_argument("--port", type=int, default=0, help="for --serve; 0: any that is free")
    p.add_argument("--no-open", dest="open", action="store_false", help="do not open a browser")
    p = command(
        "compress",
        compress.compress_command,
        "code images with a run's model, to the byte, in as many bits as its ELBO; or a photo with a lossy codec",
        where,
        source,
        seed,
    )
    p.add_argument(
        "folder",
        metavar="RUN",
        type=Path,
        help="folder of a run, of a VAE with a likelihood of bytes or of black and white; or of a lossy codec",
    )
    p.add_argument(
        "images", metavar="IMAGES", help="a folder of image files, or one; an .npy file of bytes; a data set by name: its test images"
    )
    p.add_argument("--out", metavar="FILE", type=Path, required=True, help="the file to write")
    p.add_argument("--block", type=int, default=compress.BLOCK, help="images of a block, which can be read alone; larger ones save bytes")
    p.add_argument("--binarize", action="store_true", help="first draw each pixel black or white, with its gray as the probability")
    p = command("decompress", compress.decompress_command, "make the images again that a run's model has coded", where)
    p.add_argument("folder", metavar="RUN", type=Path, help="folder of the run that coded them")
    p.add_argument("file", metavar="FILE", type=Path, help="what minivae compress wrote")
    p.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="folder for PNG files, or the name of an .npy file")
    p = command("bench", bench.bench_command, "time a training step of six VAEs on this machine's CPU")
    names = list(bench.WORKLOADS)
    p.add_argument("--workload", nargs="+", choices=names, metavar="NAME", help=f"some of {', '.join(names)}; default: all")
    p.add_argument("--seconds", type=float, default=2.0, help="time to spend on each")
    p.add_argument("--json", metavar="FILE", type=Path, help="also write the figures there")
    p.add_argument(
        "--profile", metavar="FOLDER", type=Path, help="instead, time each kernel of a step beside this machine's peak; figures go there"
    )
    p = command("bugs", proof.bugs_command, "show real mistakes in VAEs, each beside the right thing, and the check that catches it")
    p.add_argument("name", metavar="NAME", nargs="?", help="one of them; default: a table of all")
    p.add_argument("--train", action="store_true", help="train with the mistake and without it, and compare")
    command("info", info.info_command, "print versions, backends and devices found, and folders")
    return top


def add_images(p: argparse.ArgumentParser) -> None:
    """IMAGES, and what is done to image files."""
    p.add_argument("images", metavar="IMAGES", help="image file, folder of them, .npy or .npz file; or a data set, for its test images")
    group = p.add_argument_group("image files")
    group.add_argument(
        "--size", type=int, metavar="PIXELS", help="resize the shorter side, and cut out the centre; default: as in training"
    )
    kinds = group.add_mutually_exclusive_group()
    kinds.add_argument("--gray", dest="mode", action="store_const", const="gray", help="make images gray")
    kinds.add_argument("--rgb", dest="mode", action="store_const", const="rgb", help="make images coloured")
    group.add_argument("--background", metavar="COLOUR", help="what transparent pixels lie on: white, #ffcc00")


def settings() -> dict[str, list[tuple[str, Any]]]:
    """{flag of an objective: [(objective, field), ...]}"""
    found: dict[str, list[tuple[str, Any]]] = {}
    for objective, kind in OBJECTIVES.items():
        for f in fields(kind):
            found.setdefault(f.name, []).append((objective, f))
    return found


def choose_backend(options: argparse.Namespace) -> str | None:
    """Set the CPU's backend; returns the device that was asked for, if any."""
    backend, device = getattr(options, "backend", None), getattr(options, "device", None)
    if (backend == "cupy" and device == "cpu") or (backend in ("numpy", "numba") and device == "cuda"):
        raise UsageError(f"--backend {backend} does not run on --device {device}; give one of the two")
    if backend is not None:
        set_backend(backend)
    if device == "cuda":
        gpu()
    return "cuda" if backend == "cupy" else device
