"""The command line as a person meets it: what it writes, what it says, and how it refuses."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minivae.cli import main, parser
from minivae.cli.train import model_of, takes
from minivae.models import MODELS

RUN_FILES = {"config.json", "metrics.jsonl", "model.npz", "reconstructions.png", "samples.png", "losses.png"}


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """An .npz of 120 small colour images with labels."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, images=rng.integers(0, 256, (120, 10, 12, 3), np.uint8), labels=np.arange(120) % 4)
    return path


@pytest.fixture(scope="session")
def run(images, tmp_path_factory) -> Path:
    """A finished run of two latents."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    arguments = ["train", images, "--out", folder, "--epochs", 2, "--latent", 2, "--hidden", 8, "--batch-size", 25]
    assert main([str(a) for a in arguments]) == 0
    return folder


def call(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *arguments) -> str:
    """The one sentence of an error: exit code 2, one line, no traceback."""
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert err.startswith("minivae: ")
    assert err.count("\n") == 1, err
    return err


def is_png(path: Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 2000


def test_train_leaves_a_whole_run_folder(run):
    assert {p.name for p in run.iterdir()} == RUN_FILES | {"latent.png", "manifold.png"}
    assert all(is_png(p) for p in run.glob("*.png"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    for line in lines:
        assert {"loss", "reconstruction", "kl"} <= line["train"].keys() & line["test"].keys()
        assert line["seconds"] > 0


def test_train_prints_plain_lines_when_the_output_is_no_terminal(images, tmp_path):
    command = [
        sys.executable,
        "-m",
        "minivae",
        "train",
        images,
        "--out",
        tmp_path / "run",
        "--epochs",
        "1",
        "--hidden",
        "4",
        "--latent",
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r"epoch +1/1  train +[\d.]+ = [\d.]+ \+ [\d.]+  test +[\d.]+ nats  [\d,]+ images/s  0 s left", done.stdout)
    assert "\r" not in done.stdout + done.stderr
    assert {p.name for p in (tmp_path / "run").iterdir()} == RUN_FILES  # three latents: no map


@pytest.mark.parametrize("arch", ["dense", "conv"])
def test_resume_goes_on_and_says_when_it_is_done(capsys, images, tmp_path, arch):
    folder = tmp_path / "run"
    hidden = ["--channels", 4] if arch == "conv" else []
    assert main([str(a) for a in ["train", images, "--out", folder, "--epochs", 1, "--arch", arch, "--hidden", 8, *hidden]]) == 0
    assert "has done all of its 1 epochs; give a larger total with --epochs" in refused(capsys, "resume", folder)
    code, out, _ = call(capsys, "resume", folder, "--epochs", 3)
    assert code == 0
    assert re.findall(r"epoch +(\d)/3", out) == ["2", "3"]
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["reconstruct", "--count", 3], "reconstructions"),
        (["sample", "--count", 5], "samples"),
        (["interpolate", "--count", 2], "interpolations"),
    ],
)
def test_pictures_go_to_the_run_or_where_they_are_told(capsys, run, tmp_path, command, name):
    code, out, _ = call(capsys, command[0], run, *command[1:])
    assert (code, out) == (0, f"{run / name}.png\n")
    assert is_png(run / f"{name}.png")
    other = tmp_path / "picture.png"
    assert call(capsys, command[0], run, *command[1:], "--out", other)[0] == 0
    assert is_png(other)


def test_sampling_depends_on_the_seed_alone(capsys, run, tmp_path):
    pictures = []
    for i, seed in enumerate((5, 5, 6)):
        assert call(capsys, "sample", run, "--seed", seed, "--out", tmp_path / f"{i}.png")[0] == 0
        pictures.append((tmp_path / f"{i}.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_evaluate_prints_losses_and_a_tighter_bound(capsys, run):
    code, out, _ = call(capsys, "evaluate", run, "--samples", 50)
    assert code == 0
    loss, bound = (float(re.search(rf"{name} +([\d.]+)", out)[1]) for name in ("negative ELBO", "<="))
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert loss == pytest.approx(last["test"]["loss"], abs=1e-3)
    assert bound < loss
    assert "of 2" in out


def test_info_names_versions_backends_and_folders(capsys):
    code, out, _ = call(capsys, "info")
    assert code == 0
    for word in ("minivae", "numpy", "numba", "cupy", "cache", "mnist"):
        assert word in out


@pytest.mark.parametrize(
    "command",
    ["", "train", "resume", "reconstruct", "sample", "interpolate", "evaluate", "explore", "score", "denoise", "inpaint", "bench", "info"],
)
def test_help_fits_a_terminal_and_names_every_option(command):
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "minivae", *command.split(), "--help"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 110
    assert "None" not in done.stdout
    wanted = {
        "train": ["--seed", "--backend", "--device", "--data-dir", "--out", "--epochs", "--batch-size", "--hidden", "--latent", "--arch"],
        "sample": ["--seed", "--backend", "--device"],
        "": ["train", "resume", "reconstruct", "sample", "interpolate", "evaluate", "explore", "bench", "info"],
        "bench": ["--workload", "--seconds", "--json", "--profile", "iwae50"],
    }
    assert all(option in done.stdout for option in wanted.get(command, []))


def test_bad_input_gets_one_sentence(capsys, images, run, tmp_path):
    new = tmp_path / "new"
    assert "'mnits' is unknown" in refused(capsys, "train", "mnits", "--out", new)
    assert "latent is 0" in refused(capsys, "train", images, "--latent", 0, "--out", new)
    assert "batch_size is 0" in refused(capsys, "train", images, "--batch-size", 0, "--out", new)
    assert "lr is -1.0" in refused(capsys, "train", images, "--lr", -1, "--out", new)
    assert "seed is -1" in refused(capsys, "train", images, "--seed", -1, "--out", new)
    assert "cannot be halved by 4 convolutions" in refused(
        capsys, "train", images, "--arch", "conv", "--channels", 4, 4, 4, 4, "--out", new
    )
    assert not new.exists()  # nothing is left behind
    assert "no folder" in refused(capsys, "train", "mnist", "--data-dir", tmp_path / "nowhere", "--out", new)
    assert "lacks train-images-idx3-ubyte" in refused(capsys, "train", "mnist", "--data-dir", tmp_path, "--out", new)
    assert "holds a run already; continue it with: minivae resume" in refused(capsys, "train", images, "--out", run)
    assert "holds no run" in refused(capsys, "sample", tmp_path)
    assert "--count is 0" in refused(capsys, "sample", run, "--count", 0)
    assert "--steps is 1" in refused(capsys, "interpolate", run, "--steps", 1)
    assert "make at most 6 pairs" in refused(capsys, "interpolate", run, "--count", 7)
    assert "--backend numpy does not run on --device cuda" in refused(capsys, "sample", run, "--backend", "numpy", "--device", "cuda")


def test_every_flag_of_a_model_reaches_it():
    """Each option of the group "model" is an argument of some model, and is handed to it."""
    command = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices["train"]
    group = next(g for g in command._action_groups if g.title == "model")
    flags = {action.dest for action in group._group_actions} - {"model"}
    assert {"arch", "latent", "flow_layers", "entries"} <= flags
    for name in flags:
        model = next(model for model in MODELS if takes(model, name))
        assert model_of(argparse.Namespace(**dict.fromkeys(flags) | {"model": model, name: "x"})) == {"model": model, name: "x"}


def test_an_objective_in_the_place_of_a_model_gets_a_word(capsys, images):
    with pytest.raises(SystemExit):
        main(["train", str(images), "--model", "vaegan"])
    assert "vaegan is an objective; give --objective vaegan" in capsys.readouterr().err


def test_the_same_model_by_another_objective_is_another_run(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--objective", "vaegan"], ["--objective", "iwae"], ["--model", "gan"], ["--model", "gan", "--objective", "gan"]):
        code = main(["train", str(images), "--epochs", "0", "--hidden", "4", *more])
        assert code == (2 if more[-2:] == ["--objective", "gan"] else 0)  # a gan's own objective makes no other run
    names = {"images-dense-z20", "images-vaegan-dense-z20", "images-iwae-dense-z20", "images-gan-dense-z64"}
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == names


def test_a_place_that_cannot_be_written_gets_one_sentence(capsys, images, run, tmp_path):
    (tmp_path / "file").write_text("a file, no folder")
    assert "cannot be made" in refused(capsys, "train", images, "--out", tmp_path / "file" / "run")
    assert "was not written" in refused(capsys, "sample", run, "--out", tmp_path / "file" / "x.png")


def test_a_full_disk_gets_one_sentence_and_keeps_the_old_checkpoint(run, tmp_path):
    """A limit on the size of files stands for the full disk."""
    run = Path(shutil.copytree(run, tmp_path / "run"))
    before = (run / "model.npz").read_bytes()
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from minivae.cli import main; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); sys.exit(main(['resume', {str(run)!r}, '--epochs', '9']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "no room for its" in done.stderr
    assert "Traceback" not in done.stderr
    assert (run / "model.npz").read_bytes() == before


def test_a_corrupt_model_file_gets_one_sentence(capsys, run, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    data = bytearray((run / "model.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (broken / "model.npz").write_bytes(data)
    assert "is damaged" in refused(capsys, "sample", broken)
    (broken / "model.npz").write_text("no model")
    assert "is not a checkpoint" in refused(capsys, "resume", broken)


def test_no_gpu_is_one_sentence(capsys, images, tmp_path):
    from minivae.backend import gpu
    from minivae.errors import UsageError

    try:
        gpu()
    except UsageError:
        sentence = refused(capsys, "train", images, "--device", "cuda", "--out", tmp_path / "new")
        assert "use --device cpu" in sentence
        assert sentence == refused(capsys, "train", images, "--backend", "cupy", "--out", tmp_path / "new")
    else:
        pytest.skip("there is a GPU")


def test_interrupted_training_says_how_to_go_on(images, tmp_path):
    folder = tmp_path / "run"
    code = (
        "import sys; from minivae.training import Trainer; from minivae.cli import main\n"
        "epoch = Trainer.epoch\n"
        "def interrupted(self, *rest, **how):\n"
        "    if self.epochs_done == 1: raise KeyboardInterrupt\n"
        "    return epoch(self, *rest, **how)\n"
        "Trainer.epoch = interrupted\n"
        f"sys.exit(main(['train', {str(images)!r}, '--out', {str(folder)!r}, '--epochs', '3', '--hidden', '4']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 130
    assert done.stderr.strip().endswith(f"minivae: interrupted; continue with: minivae resume {folder}")
    assert main(["resume", str(folder)]) == 0
