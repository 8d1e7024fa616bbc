"""The commands that prove: is the gradient right, and would a mistake have been found?"""

import argparse
import difflib
import importlib.util
import textwrap
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from ..bugs import BUGS, Mistake
from ..data import Batch, to_float
from ..engine import Tensor
from ..errors import MinivaeError, UsageError
from ..gradcheck import Report, frozen, gradcheck
from ..objectives import trained
from ..random import Stream
from ..runs import Run
from .look import data_of, labels_for, write_figure

EXAMPLES = 8  # test images in the loss
ELEMENTS = 4  # of each variable, 21 evaluations of the loss each
WIDTH = 100  # columns


def gradcheck_command(options: argparse.Namespace, device: str | None) -> None:
    """Print a gradient check of a run's own loss, or of a function in somebody's file, and draw its V-curve.

    Raises MinivaeError, one sentence, if a gradient is wrong."""
    if device == "cuda":
        raise UsageError("gradcheck works in float64 and complex numbers, on the CPU; leave --device out")
    file, _, name = str(options.folder).rpartition(":")
    if file.endswith(".py"):
        report = gradcheck(**stranger(Path(file), name), seed=options.seed, name=f"{name} of {file}")
        picture = options.out or Path("v-curve.png")
    else:
        report, picture = report_of_run(options), options.out or options.folder / "v-curve.png"
    print(report)
    write_figure(picture, report.plot_v_curve())
    if not report.ok:
        row = report.wrong[0]
        more = f" (and {len(report.wrong) - 1} more)" if len(report.wrong) > 1 else ""
        raise MinivaeError(f"the gradient of {row.name}{more} is wrong: {row.cause}")


def report_of_run(options: argparse.Namespace) -> Report:
    """Of a run's own loss."""
    run = Run.open(options.folder, "cpu")
    data = data_of(run, options)
    x = run.trainer.like(to_float(data.test_images[:EXAMPLES]))
    loss = loss_of(run, x, labels_for(run, data, slice(EXAMPLES)), len(data.train_images), Stream(options.seed))
    return gradcheck(loss, elements=ELEMENTS, seed=options.seed, name=f"the loss of {run.folder}, {len(x)} test images")


def stranger(file: Path, name: str) -> dict[str, Any]:
    """The arguments of gradcheck that a function in somebody's file returns: (f, inputs) or (f, inputs, gradient)."""
    wanted = f"a function {name or 'NAME'}() that returns (f, inputs), or (f, inputs, gradient) for an f of plain arrays"
    if not file.is_file():
        raise UsageError(f"there is no file {file}; name one that has {wanted}: minivae gradcheck FILE.py:NAME")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, name, None)):
            raise UsageError(f"{file} has no function {name!r}; need {wanted}")
        found = getattr(module, name)()
    except MinivaeError:
        raise
    except Exception as error:  # of somebody else's code
        raise UsageError(f"{file}: {type(error).__name__}: {error}; need {wanted}") from error
    if not isinstance(found, tuple) or len(found) not in (2, 3) or not callable(found[0]):
        raise UsageError(f"{name}() of {file} returned a {type(found).__name__}; need {wanted}")
    return dict(zip(("f", "inputs", "gradient"), found, strict=False))


def loss_of(run: Run, x: Any, labels: Any, size: int, rng: Stream) -> Callable[[], Tensor]:
    """The run's own loss of these images, with the noise of every evaluation the same."""
    trainer, noise = run.trainer, rng.split("noise of the gradient check")
    batch = Batch(x, labels, None, np.arange(len(x)))
    progress = trained(size, tuple(trainer.players)[:1])

    def loss(model: Any, x: Any, rng: Stream) -> Tensor:
        players = trainer.players | {"model": model}
        losses, _ = trainer.objective.losses(players, batch._replace(x=x, other=batch), rng, progress)
        return losses[progress.turn[0]]

    return frozen(loss, run.model, x, noise)


def bugs_command(options: argparse.Namespace, device: str | None) -> None:
    """A table of all mistakes, or one of them: bug and fix, the check on both, and on request a training with both."""
    if options.name is None:
        if options.train:
            raise UsageError("--train trains with one of the mistakes; name it: minivae bugs NAME --train")
        print(bugs_table())
        return
    if options.name not in BUGS:
        close = difflib.get_close_matches(options.name, BUGS, n=1)
        hint = f"did you mean {close[0]}?" if close else "`minivae bugs` lists them"
        raise UsageError(f"there is no {options.name!r} in the list of bugs; {hint}")
    mistake = BUGS[options.name]
    print("\n".join([mistake.name, *wrapped(f"{mistake.says()}."), *wrapped(f"Seen in: {mistake.seen}."), ""]))
    print(side_by_side(mistake.source(mistake.bug), mistake.source(mistake.fix)))
    print("\n".join(["", *wrapped(f"The check: {mistake.caught_by}.")]))
    findings = {"bug": mistake.check(mistake.bug), "fix": mistake.check(mistake.fix)}
    for part, found in findings.items():
        verdict = "passes" if found.ok else "caught"
        print("\n".join(wrapped(f"  {part}: {found.what}: off by {found.size:.1e}, allowed {found.allowed:.1e}: {verdict}", 7)))
    if findings["bug"].ok or not findings["fix"].ok:
        raise MinivaeError(f"the check of {mistake.name} does not tell the bug from the fix; it is the check that is wrong, or the library")
    if options.train:
        print("\n" + effect_table(mistake))


def bugs_table() -> str:
    left = max(map(len, BUGS)) + 2
    lines = [f"{'name':{left}}the mistake, and what catches it", "-" * WIDTH]
    for name, mistake in BUGS.items():
        lines += wrapped(f"{name:{left}}{mistake.says()}", left) + wrapped(f"{'':{left}}> {mistake.caught_by}", left + 2)
    return "\n".join([*lines, "", "minivae bugs NAME shows one, runs its check, and with --train lets it loose."])


def effect_table(mistake: type[Mistake]) -> str:
    """What a short training comes to, with the mistake and without."""
    bug, fix = mistake.effect()
    left = max(map(len, bug)) + 2
    rows = [f"{figure:{left}}{bug[figure]:>12.4g}{fix[figure]:>12.4g}" for figure in bug]
    head = f"{'the same short training with the':{left}}{'bug':>12}{'fix':>12}"
    return "\n".join([head, *rows, "", *wrapped(mistake.harm)])


def side_by_side(bug: str, fix: str) -> str:
    """Two functions in two columns; what is too long for its column goes on below, further in."""
    half = (WIDTH - 3) // 2
    columns = [
        [piece for line in text.splitlines() for piece in wrapped(line, len(line) - len(line.lstrip()) + 8, half) or [""]]
        for text in (bug, fix)
    ]
    lines = [f"{a:{half}} | {b}" for a, b in zip_longest(*columns, fillvalue="")]
    return "\n".join([f"{'the bug':{half}} | the fix", "-" * half + "-+-" + "-" * half, *lines])


def wrapped(text: str, indent: int = 0, width: int = WIDTH) -> list[str]:
    """Lines of at most `width`, from the second on indented."""
    kept = len(text) - len(text.lstrip())
    return textwrap.wrap(text, width, initial_indent="", subsequent_indent=" " * max(indent, kept), break_on_hyphens=False)
