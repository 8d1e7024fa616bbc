"""The bug zoo: real mistakes in variational autoencoders, each beside the right thing, with the check that catches it.

Every specimen is a class with `bug`, `fix`, `check` and `training`; see Specimen.  `minivae zoo` shows them on the command line.

    from minivae.zoo import ZOO
    ZOO["kl-without-half"].check(ZOO["kl-without-half"].bug)
"""

from . import densities, estimators, scales
from .specimen import Finding, Specimen

ZOO: dict[str, type[Specimen]] = {s.name: s for s in densities.SPECIMENS + scales.SPECIMENS + estimators.SPECIMENS}

__all__ = ["ZOO", "Finding", "Specimen"]
