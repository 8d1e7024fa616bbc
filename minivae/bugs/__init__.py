"""Bugs: real mistakes in variational autoencoders, each beside the right thing, with the check that catches it.

Every mistake is a class with `bug`, `fix`, `check` and `training`; see Mistake.  `minivae bugs` shows them on the command line.

    from minivae.bugs import BUGS
    BUGS["kl-without-half"].check(BUGS["kl-without-half"].bug)
"""

from . import densities, estimators, scales
from .mistake import Finding, Mistake

BUGS: dict[str, type[Mistake]] = {s.name: s for s in densities.MISTAKES + scales.MISTAKES + estimators.MISTAKES}

__all__ = ["BUGS", "Finding", "Mistake"]
