"""Checkpoints: the state from which a step goes on, as a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from numerics.atomic import write_arrays
from numerics.errors import InputRefused
from numerics.pieces import Array
from numerics.records import Unreadable, read_arrays

__all__ = ["CHECKPOINTS", "Checkpoint", "checkpoint_paths", "decode_state", "encode_state"]

CHECKPOINTS = "checkpoints"
_KEPT = 2


def encode_state(state: Mapping[str, Any]) -> tuple[Any, dict[str, Array]]:
    """Return a nested dict as a JSON tree, in which {"array": i} stands for array i, and the arrays "0", "1" and so on.

    Refuses what is neither dict, list, array, number, text nor None.
    """
    arrays: dict[str, Array] = {}
    return _encode("checkpoint", state, arrays), arrays


def _encode(where: str, value: Any, arrays: dict[str, Array]) -> Any:
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _encode(f"{where}/{key}", inner, arrays) for key, inner in value.items()}}
    if isinstance(value, list | tuple):
        return {"list": [_encode(f"{where}/{i}", inner, arrays) for i, inner in enumerate(value)]}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        arrays[str(len(arrays))] = np.asarray(value)
        return {"array": len(arrays) - 1}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise InputRefused(
        f"a checkpoint holds dicts with text keys, lists, numeric arrays, numbers, text and None, got "
        f"{type(value).__name__} at {where}; convert it first."
    )


def decode_state(tree: Mapping[str, Any], arrays: Mapping[str, Array]) -> Any:
    """Return what `encode_state` took; tuples come back as lists, numpy numbers as arrays without dimensions."""
    ((kind, content),) = tree.items()
    if kind == "dict":
        return {key: decode_state(inner, arrays) for key, inner in content.items()}
    if kind == "list":
        return [decode_state(inner, arrays) for inner in content]
    return arrays[str(content)] if kind == "array" else content


@dataclass(frozen=True)
class Checkpoint:
    """Where step `step` goes on: `state` as encoded, the number of chunks before it, rows per process in them."""

    step: int
    chunks: int
    rows: Mapping[str, int]
    state: Any
    arrays: Mapping[str, Array]

    def write(self, folder: Path, run_id: str) -> None:
        """Store it and remove all but the newest two; raises OSError."""
        header = {"run": run_id, "step": self.step, "chunks": self.chunks, "rows": self.rows, "state": self.state}
        write_arrays(folder / CHECKPOINTS / f"{self.step:09d}.npz", header, self.arrays)
        for path in checkpoint_paths(folder)[:-_KEPT]:
            path.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path, run_id: str) -> Self:
        """Return the checkpoint in a file.

        Raises:
            Unreadable: damaged or foreign.
        """
        header, arrays = read_arrays(path)
        if header.get("run") != run_id:
            raise Unreadable(f"{path.name} belongs to another run")
        try:
            return cls(header["step"], header["chunks"], header["rows"], header["state"], arrays)
        except KeyError:
            raise Unreadable(f"{path.name} is no checkpoint") from None


def checkpoint_paths(folder: Path) -> list[Path]:
    """Return the files named like checkpoints, oldest first."""
    found = [path for path in (folder / CHECKPOINTS).glob("*.npz") if path.stem.isdecimal()]
    return sorted(found, key=lambda path: int(path.stem))
