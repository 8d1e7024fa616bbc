"""The commands that prove: is the gradient right?"""

import argparse

from ..data import to_float
from ..errors import MinivaeError
from ..gradcheck import frozen, gradcheck
from ..models import given
from ..random import Stream
from ..training import Run
from .commands import conditions, data_of, write_figure

EXAMPLES = 8  # test images in the loss
ELEMENTS = 4  # of each variable, 21 evaluations of the loss each


def gradcheck_command(options: argparse.Namespace, device: str | None) -> None:
    """Print a gradient check of the run's own loss, and draw its V-curve; MinivaeError, one sentence, if a gradient is wrong."""
    run = Run.open(options.folder, device)
    data = data_of(run, options)
    x = run.on_device(to_float(data.test_images[:EXAMPLES]))
    model = given(run.model, conditions(run, data.test_labels, slice(EXAMPLES)))
    loss = frozen(run.trainer.config.loss(), model, x, Stream(options.seed).split("noise of the gradient check"))
    report = gradcheck(loss, elements=ELEMENTS, seed=options.seed, name=f"the loss of {run.folder}, {len(x)} test images")
    print(report)
    write_figure(options.out or run.folder / "v-curve.png", report.plot_v_curve())
    if not report.ok:
        row = report.wrong[0]
        more = f" (and {len(report.wrong) - 1} more)" if len(report.wrong) > 1 else ""
        raise MinivaeError(f"the gradient of {row.name}{more} is wrong: {row.cause}")
