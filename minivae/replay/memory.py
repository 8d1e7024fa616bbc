"""Where the arrays of a recorded step lie: one block of memory for all of them, in which a place is used again after its last reader.

While the step is recorded, a `Ledger` only describes the arrays that pass by, as `Place`s in numbered buffers, and lets go of them, so
that a recording needs no more memory than the step.  Afterwards it knows from when to when each buffer is in use, and lays them out.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ALIGNMENT = 64  # bytes: a cache line


@dataclass(frozen=True, slots=True)
class Place:
    """An array without its memory: `offset` bytes into buffer number `buffer`."""

    buffer: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    writeable: bool


class Ledger:
    """The buffers that a recording has met: those that existed before, which are kept, and those made in it, which need not be."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}  # of the arrays that live, by their id
        self.owners: list[weakref.ref] = []  # the array that owns each buffer
        self.kept: dict[int, np.ndarray] = {}
        self.first: list[int] = []  # the calls between which a buffer is in use
        self.last: list[int] = []
        self.sizes: list[int] = []

    def keep(self, arrays: Sequence[np.ndarray]) -> None:
        """What the step did not make is not moved."""
        for a in arrays:
            owner = _owner(a)
            if id(owner) not in self.numbers:
                self.kept[self._number(owner, 0)] = owner

    def place(self, a: np.ndarray, call: int) -> "Place | np.ndarray":
        """Describe an array that call number `call` works on."""
        owner = _owner(a)
        number = self.numbers.get(id(owner))
        if number is None:
            number = self._number(owner, call)
        if number in self.kept or not a.size:
            return a
        self.last[number] = max(self.last[number], call)
        offset = a.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
        return Place(number, offset, a.shape, a.strides, a.dtype, a.flags.writeable)

    def _number(self, owner: np.ndarray, call: int) -> int:
        number, key = len(self.owners), id(owner)
        self.numbers[key] = number
        self.owners.append(weakref.ref(owner, lambda _: self.numbers.pop(key)))
        self.first.append(call)
        self.last.append(call)
        self.sizes.append(owner.nbytes)
        return number

    def allocate(self, results: Sequence["Place | np.ndarray"]) -> Callable[[Any], Any]:
        """Give every buffer its memory.  Returns what makes a Place its array, and leaves anything else as it is.

        Results are in use to the end.  A buffer that somebody else still holds stays where it is.
        """
        own = {place.buffer for place in results if isinstance(place, Place)}
        for n in own:
            self.last[n] = max(self.last)
        buffers = {n: owner.ravel("K") for n, ref in enumerate(self.owners) if n not in own and (owner := ref()) is not None}
        moved = [n for n in range(len(self.owners)) if n not in buffers]
        offsets, size = layout(*([times[n] for n in moved] for times in (self.sizes, self.first, self.last)))
        memory = np.full(size + ALIGNMENT, 255, np.uint8)  # NaN: what no call writes is no number, least of all by chance the right one
        memory = memory[-memory.__array_interface__["data"][0] % ALIGNMENT :]
        buffers |= {n: memory[at:] for n, at in zip(moved, offsets, strict=True)}

        def array(place: Any) -> Any:
            if not isinstance(place, Place):
                return place
            a: np.ndarray = np.ndarray(place.shape, place.dtype, buffers[place.buffer], place.offset, place.strides)
            a.flags.writeable = place.writeable
            return a

        return array


def layout(sizes: Sequence[int], first: Sequence[int], last: Sequence[int]) -> tuple[list[int], int]:
    """Offsets of buffers of so many bytes, and of their end: two that are in use at one time do not overlap.

    Buffer i is in use from first[i] to last[i], both included.  The largest are placed first, each as low as it can.
    """
    offsets = [0] * len(sizes)
    placed: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        at = 0
        for j in sorted(placed, key=offsets.__getitem__):
            if first[i] <= last[j] and first[j] <= last[i] and sizes[j]:
                if offsets[j] - at >= sizes[i]:
                    break
                at = max(at, -(-(offsets[j] + sizes[j]) // ALIGNMENT) * ALIGNMENT)
        offsets[i] = at
        placed.append(i)
    return offsets, max((at + size for at, size in zip(offsets, sizes, strict=True)), default=0)


def _owner(a: np.ndarray) -> np.ndarray:
    """The array whose memory a is a part of."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a
