"""minivae train and minivae resume."""

import argparse
import inspect
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..data import NAMES, Dataset, load
from ..errors import UsageError
from ..kernels.cpu import jit
from ..models import MODELS
from ..objectives import OBJECTIVES, Objective, default_objective
from ..runs import Run
from ..training import TrainingConfig
from ..training.schedules import learning_rate
from .look import data_of, draw


def train_command(options: argparse.Namespace, device: str | None) -> None:
    announce_compiling()
    training = TrainingConfig(**{name: getattr(options, name) for name in TrainingConfig.__dataclass_fields__})
    objective = objective_of(options)
    prepare = {"size": options.size, "mode": options.mode, "background": options.background, "label": options.label_column}
    prepare = {name: value for name, value in (prepare | {"standardize": options.standardize or None}).items() if value is not None}
    data = load(options.dataset, options.data_dir, **prepare)
    model = model_of(options)
    known = data.name in NAMES
    source = {"name_or_path": data.name if known else str(Path(options.dataset).absolute())} | prepare
    if options.data_dir is not None:
        source["data_dir"] = str(Path(options.data_dir).absolute())
    arch, latent = (model.get(name, default_of(options.model, name)) for name in ("arch", "latent"))
    kind = [] if options.model == "vae" else [options.model]
    by = [] if objective.name == default_objective(options.model).name else [objective.name]
    named = [*([] if arch is None else [arch]), *([] if latent is None else [f"z{latent}"])]
    folder = options.out or Path("runs") / "-".join([Path(data.name).stem, *kind, *by, *named])
    run = Run.start(folder, data, model, training, source, device or "cpu", objective)
    with Report(run, data, options) as report:
        run.train(data, report.step, report.epoch)
    draw(run, data)


def resume_command(options: argparse.Namespace, device: str | None) -> None:
    announce_compiling()
    run = Run.open(options.folder, device, epochs=options.epochs, precision=options.precision, lr=options.lr)
    if run.epochs_done >= run.trainer.config.epochs:
        raise UsageError(f"{run.folder} has done all of its {run.epochs_done} epochs; give a larger total with --epochs")
    print(rate_sentence(run, options.epochs), end="")
    data = data_of(run, options)
    with Report(run, data, options) as report:
        run.train(data, report.step, report.epoch)
    draw(run, data)


def rate_sentence(run: Run, epochs: int | None) -> str:
    """What a new total of epochs does to a learning rate that had a course over the old one; nothing if it does nothing."""
    config, done = run.trainer.config, run.epochs_done
    before = run.asked.get("epochs", config.epochs)
    if epochs is None or epochs == before or config.lr_schedule == "constant":
        return ""
    old, new = (config.lr * learning_rate(config.lr_schedule, done, total, round(config.lr_warmup)) for total in (before, epochs))
    return (
        f"the {config.lr_schedule} schedule now runs over {epochs} epochs instead of {before}: the learning rate goes on at {new:.2g}, "
        f"where it stood at {old:.2g}; --lr scales it\n"
    )


def model_of(options: argparse.Namespace) -> dict[str, Any]:
    """The model and the flags that are its arguments; UsageError for a flag of another one."""
    flags = (
        "arch",
        "hidden",
        "channels",
        "latent",
        "activation",
        "likelihood",
        "head",
        "prior_kind",
        "top",
        "pseudo",
        "flow",
        "flow_layers",
        "groups",
        "entries",
    )
    asked = {name: getattr(options, name) for name in flags if getattr(options, name) is not None}
    for name in asked:
        if not takes(options.model, name):
            having = [other for other in MODELS if takes(other, name)]
            flag = name.removesuffix("_kind").replace("_", "-")
            raise UsageError(
                f"--{flag} is an argument of the model {', '.join(having)}, and the model is {options.model}; "
                "leave it out, or choose another --model"
            )
    return {"model": options.model} | asked


def model_name(name: str) -> str:
    """--model, with a word for those who give it the name of an objective."""
    if name in OBJECTIVES and name not in MODELS:
        raise argparse.ArgumentTypeError(f"{name} is an objective; give --objective {name}, and the model that it is to train")
    return name


def parameters_of(model: str) -> dict[str, inspect.Parameter]:
    """The arguments of a model by name; of a class that hands options on, its base's besides."""
    found: dict[str, inspect.Parameter] = {}
    for kind in MODELS[model].__mro__:
        own = inspect.signature(kind).parameters
        found = dict(own) | found
        if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            break
    return found


def takes(model: str, name: str) -> bool:
    return name in parameters_of(model)


def default_of(model: str, name: str) -> Any:
    return parameters_of(model)[name].default if takes(model, name) else None


def objective_of(options: argparse.Namespace) -> Objective:
    """The objective and the flags that are its fields; UsageError for a flag of another one."""
    chosen = options.objective or default_objective(options.model).name
    kind = OBJECTIVES[chosen]
    own = {f.name for f in fields(kind)}
    every = sorted({f.name for other in OBJECTIVES.values() for f in fields(other)})
    asked = {name: getattr(options, name) for name in every if getattr(options, name) is not None}
    for name in asked.keys() - own:
        having = [other for other, k in OBJECTIVES.items() if name in {f.name for f in fields(k)}]
        raise UsageError(
            f"--{name.replace('_', '-')} is a setting of the objective {' or '.join(having)}, and the objective is {chosen}; "
            f"add --objective {having[0]}, or leave it out"
        )
    return kind(**asked)


class Report:
    """A progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, run: Run, data: Dataset, options: argparse.Namespace):
        options.saved = run.folder
        self.run, self.n, self.first = run, len(data.train_images), run.epochs_done
        self.total = run.trainer.config.epochs
        if data.note:
            print(data.note)
        size = sum(p.size for p in run.model.parameters())
        kind = "images" if len(data.image_shape) == 3 else "vectors of" if len(data.image_shape) == 1 else "arrays"
        print(f"{data.name}: {self.n:,} {kind} {'x'.join(map(str, data.image_shape))} to train, {len(data.test_images):,} to test")
        told = [type(run.model).__name__, *([run.model.arch] if hasattr(run.model, "arch") else [])]
        told += [f"{run.model.latent} latents"] if hasattr(run.model, "latent") else []
        print(f"model: {', '.join(told)}, {size:,} parameters; run folder: {run.folder}", flush=True)

    def __enter__(self) -> "Report":
        self.start, self.compiled = time.perf_counter(), jit.compiling.seconds
        self.bar = tqdm(
            total=self.n * self.total, initial=self.n * self.first, unit=" images", unit_scale=True, disable=None, dynamic_ncols=True
        )
        if not self.bar.disable:
            self.bar_start = self.bar.start_t
            jit.compiling.tell = self.compiling
        return self

    def __exit__(self, *error: Any) -> None:
        jit.compiling.tell = lambda: None
        self.bar.close()

    def compiling(self) -> None:
        """It is done once: its time is no part of the bar's."""
        self.bar.start_t, self.bar.last_print_t = self.bar_start + jit.compiling.seconds - self.compiled, time.time()
        self.bar.set_postfix_str(f"compiling: {jit.compiling.kernels} kernels done")

    def step(self, done: int, loss: float) -> None:
        self.bar.set_description(f"epoch {self.run.epochs_done + 1}/{self.total}", refresh=False)
        self.bar.set_postfix_str(f"loss {loss:.2f}", refresh=False)
        self.bar.update(self.n * self.run.epochs_done + done - self.bar.n)

    def epoch(self, line: dict[str, Any]) -> None:
        train, test, trainer = line["train"], line["test"], self.run.trainer
        spent = time.perf_counter() - self.start - (jit.compiling.seconds - self.compiled)  # compiling is done once
        left = spent / (self.run.epochs_done - self.first) * (self.total - self.run.epochs_done)
        self.bar.write(
            f"epoch {line['epoch']:3d}/{self.total}  train {train['loss']:8.2f} {trainer.objective.summary(train)}  "
            f"test {test['loss']:8.2f} {trainer.objective.units:4s}  {self.n / line['seconds']:,.0f} images/s  {left:.0f} s left"
        )
        if "warning" in line:
            self.bar.write(f"warning: {line['warning']}")
        if line["epoch"] == self.first + 1 and trainer.on_gpu is not None and trainer.why_eager:
            self.bar.write(f"note: every kernel of a step is launched by itself, since {trainer.why_eager}")
        sys.stdout.flush()


def announce_compiling() -> None:
    """Tell a newcomer, as soon as something is compiled, why nothing seems to happen."""

    def tell() -> None:
        jit.compiling.tell = lambda: None
        print("compiling the kernels for this processor: once, and for some 10 to 30 seconds", flush=True)

    if not jit.compiling.kernels:
        jit.compiling.tell = tell
