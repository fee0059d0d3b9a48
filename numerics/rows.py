"""Rows on their way into a record: checked, copied, buffered, and stacked into pieces."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from numerics.errors import InputRefused
from numerics.pieces import Array, Piece, join

__all__ = ["Row", "RowBuffer", "checked_finals", "stack"]

Row: TypeAlias = Mapping[str, Any]


def stack(first: int, rows: Sequence[Mapping[str, Array]]) -> Piece:
    """Return rows of one process as one piece which starts at row `first`."""
    names = dict.fromkeys(name for row in rows for name in row)
    series = {}
    for name in names:
        values = [row[name] for row in rows if name in row]
        if len(values) == len(rows) and all(value.shape == values[0].shape for value in values):
            series[name] = np.stack(values)
        else:
            one_by_one = [Piece(t, 1, {name: row[name][None]}) for t, row in enumerate(rows) if name in row]
            series[name] = join([*one_by_one, Piece(len(rows), 0, {})])[name]
    return Piece(first, len(rows), series)


class RowBuffer:
    """Rows which are recorded but not yet stored, per process; it turns away rows that cannot be stacked."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}  # rows already taken away
        self.rows: dict[str, list[dict[str, Array]]] = {}
        self.ranks: dict[str, dict[str, int]] = {}  # process → series → number of dimensions of one row

    def append(self, process: str, rows: Sequence[Row] | Row) -> None:
        """Copy rows in.

        Refuses values that are not numeric, unusable names, and a series which changes its number of dimensions.
        """
        if process not in self.rows:
            check_name("process", process, nested=False)
        ranks = dict(self.ranks.get(process, {}))  # a copy: a refused row leaves no trace
        copies = [_copied(process, row, ranks) for row in ([rows] if isinstance(rows, Mapping) else rows)]
        self.ranks[process] = ranks
        self.rows.setdefault(process, []).extend(copies)

    def pieces(self, step: int | None = None) -> dict[str, Piece]:
        """Return the buffered rows with index below `step` (all if None) of every process that has some."""
        found = {}
        for process, rows in self.rows.items():
            first = self.counts.get(process, 0)
            ready = rows if step is None else rows[: max(0, step - first)]
            if ready:
                found[process] = stack(first, ready)
        return found

    def drop(self, pieces: Mapping[str, Piece]) -> None:
        """Forget rows which have been stored."""
        for process, piece in pieces.items():
            del self.rows[process][: piece.count]
            self.counts[process] = piece.first + piece.count


def _copied(process: str, row: Row, ranks: dict[str, int]) -> dict[str, Array]:
    copy = {name: numeric_array(name, value) for name, value in row.items()}
    for name, value in copy.items():
        if name not in ranks:
            check_name("series", name)
            check_nesting(name, ranks)
            ranks[name] = value.ndim
        if ranks[name] != value.ndim:
            raise InputRefused(
                f"series {name!r} of process {process!r} had {ranks[name]} dimensions in earlier rows and now has "
                f"{value.ndim}; record it under another name."
            )
    return copy


def numeric_array(name: str, value: object) -> Array:
    """Return a copy of `value` as an array of bools, integers or floats.

    Raises:
        InputRefused: it is something else.
    """
    try:
        array = np.array(value)
    except ValueError:  # a ragged list
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        raise InputRefused(
            f"{name!r} must be a real number or a numeric array, got {type(value).__name__}"
            f"{'' if array.dtype.kind == 'O' else f' of {array.dtype}'}; convert it first."
        )
    return array


def check_name(what: str, name: object, *, nested: bool = True) -> None:
    """Refuse a name which cannot be an HDF5 path.

    Raises:
        InputRefused: it cannot.
    """
    parts = name.split("/") if isinstance(name, str) else [""]
    if any(part in {"", ".", ".."} or "\0" in part for part in parts) or not (nested or len(parts) == 1):
        form = "parts joined by single slashes" if nested else "without a slash"
        raise InputRefused(f"a {what} name must be a non-empty text, {form}, got {name!r}; rename it.")


def check_nesting(name: str, others: Iterable[str]) -> None:
    """Refuse a name that is at once a value and a group of values.

    Raises:
        InputRefused: it is both.
    """
    for other in others:
        if other.startswith(name + "/") or name.startswith(other + "/"):
            raise InputRefused(f"{name!r} cannot stand beside {other!r}, being both value and group; rename it.")


def flatten(name: str, value: object) -> Iterator[tuple[str, Array]]:
    """Yield a nested dict as flat names, joined by slashes, with their arrays."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(f"{name}/{key}" if name else str(key), inner)
    else:
        check_name("final value's", name)
        yield name, numeric_array(name, value)


def checked_finals(
    finals: Mapping[str, Mapping[str, Any]], series: Mapping[str, Mapping[str, object]]
) -> dict[str, dict[str, Array]]:
    """Return process → flat name → array.

    Raises:
        InputRefused: a value is not numeric, or a final has the name of a series.
    """
    flat = {process: dict(flatten("", values)) for process, values in finals.items()}
    for process, values in flat.items():
        check_name("process", process, nested=False)
        for name in values:
            check_nesting(name, [*series.get(process, ()), *values])
            if name in series.get(process, {}):
                raise InputRefused(
                    f"final {name!r} of {process!r} has the name of a series; call the series {name}_series."
                )
    return flat
