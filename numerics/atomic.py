"""Files which are there whole or not at all, whatever happens while they are written."""

import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from numerics.pieces import Array
from numerics.records import FORMAT, HEADER

__all__ = ["plain", "write_arrays", "write_atomically", "write_json"]


class _Sink(io.FileIO):
    """A file which remembers the first failure instead of raising it.

    HDF5 and zip writers that meet an exception while closing stay half-open and fail again at interpreter exit; here
    they close in peace and `settle` raises.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        size, rest = len(view), view
        while rest and self.error is None:  # a nearly full disk takes a part without an error
            rest = rest[self._attempt(super().write, rest) or 0 :]
        if rest:
            self.seek(len(rest), os.SEEK_CUR)
        return size

    def truncate(self, size: int | None = None) -> int:
        return self._attempt(super().truncate, size) or 0

    def settle(self) -> None:
        """Bring everything to the disk, or raise the first failure since the file was opened (OSError)."""
        if self.error is not None:
            raise self.error
        os.fsync(self.fileno())

    def _attempt(self, operation: Callable[..., int | None], *arguments: Any) -> int | None:
        try:
            return operation(*arguments)
        except OSError as error:
            self.error = self.error or error
            return None


def write_atomically(path: Path, fill: Callable[[io.FileIO], object]) -> None:
    """Create or replace `path` with what `fill` writes: whole and on the disk, or not at all (OSError)."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with _Sink(temporary, "w+") as sink:
            try:
                fill(sink)
            except Exception:
                sink.settle()  # a writer that stumbled over missing bytes: the disk's own failure says more
                raise
            sink.settle()
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_arrays(path: Path, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write an .npz file (no pickle) with a JSON header, atomically."""
    text = np.frombuffer(json.dumps({"format": FORMAT, **header}).encode(), np.uint8)
    members: dict[str, Any] = {HEADER: text, **arrays}
    write_atomically(path, lambda sink: np.savez(sink, **members))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    text = json.dumps(value, indent=2, default=plain).encode()
    write_atomically(path, lambda sink: sink.write(text))


def plain(value: object) -> object:
    """Return what JSON does not know as something that it does."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)
