"""Stacked rows of one process, and how pieces of them make whole series."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Layout", "Piece", "Slot", "join", "place", "plan"]

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Slot:
    """Where rows [first, first + count) of one process stand, and the row shape and dtype of each series."""

    first: int
    count: int
    series: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


@dataclass(frozen=True)
class Piece:
    """Rows [first, first + count) of one process, stacked: each series has shape (count, …)."""

    first: int
    count: int
    series: Mapping[str, Array]

    @property
    def slot(self) -> Slot:
        """The piece without its numbers."""
        return Slot(self.first, self.count, {name: (x.shape[1:], x.dtype) for name, x in self.series.items()})


@dataclass(frozen=True)
class Layout:
    """Shape and dtype of a whole series; `padded` says that some entries are NaN for want of a value."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    padded: bool


def plan(slots: Sequence[Slot]) -> dict[str, Layout]:
    """Return the layout of every series that the slots hold together; padding turns integers into float64."""
    rows = max((slot.first + slot.count for slot in slots), default=0)
    names = dict.fromkeys(name for slot in slots for name in slot.series)
    return {name: _layout(rows, name, [slot for slot in slots if name in slot.series]) for name in names}


def _layout(rows: int, name: str, slots: Sequence[Slot]) -> Layout:
    shapes = [slot.series[name][0] for slot in slots]
    widest = tuple(max(widths) for widths in zip(*shapes, strict=True))
    padded = sum(slot.count for slot in slots) != rows or any(shape != widest for shape in shapes)
    dtype = np.result_type(*(slot.series[name][1] for slot in slots))
    return Layout((rows, *widest), np.dtype(float) if padded and dtype.kind in "biu" else dtype, padded)


def place(target: Any, piece: Piece, name: str) -> None:
    """Write one piece of a series into `target`, an array or an HDF5 dataset laid out by `plan`."""
    values = piece.series[name]
    if values.size:
        target[slice(piece.first, piece.first + piece.count), *(slice(width) for width in values.shape[1:])] = values


def join(pieces: Sequence[Piece]) -> dict[str, Array]:
    """Return the whole series of one process, NaN wherever no piece has a value."""
    whole = {}
    for name, layout in plan([piece.slot for piece in pieces]).items():
        whole[name] = np.full(layout.shape, np.nan if layout.padded else 0, layout.dtype)
        for piece in pieces:
            if name in piece.series:
                place(whole[name], piece, name)
    return whole
