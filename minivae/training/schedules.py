"""Numbers that change while training goes on: functions of the step (from 0) that give a factor from 0 to 1."""

import math

from ..errors import UsageError

SCHEDULES = ("constant", "cosine")


def learning_rate(kind: str, step: int, total: int, warmup: int = 0) -> float:
    """The factor of the base learning rate: a linear rise over `warmup` steps, then constant, or half a cosine down to 0 at `total`."""
    if kind not in SCHEDULES:
        raise UsageError(f"learning-rate schedule {kind!r} is unknown; choose one of {', '.join(SCHEDULES)}")
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if kind == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(total - warmup, 1), 1.0)))
