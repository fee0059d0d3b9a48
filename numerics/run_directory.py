"""Recording: a run directory that survives `kill -9` and a full disk, or memory with the same interface.

    manifest.json     config, versions, git revision, seed, device, command, status
    chunks/           NNNNNN.npz, immutable: some rows of all processes
    checkpoints/      NNNNNNNNN.npz by step, the last two: the state from which that step goes on
    finals.npz        values after the last step
    results.h5        one group per process, rebuilt from the chunks; always a complete ordinary file

Every file is written under a temporary name, fsynced and renamed, so it is there whole or not at all. A chunk is
renamed before the checkpoint that follows it, and a checkpoint names its last chunk: going on from a checkpoint drops
the chunks after it. Readers use `Run.load`, which needs no lock and changes nothing.
"""

import errno
import fcntl
import io
import json
import math
import os
import subprocess
import sys
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import h5py
import numpy as np

from numerics.errors import InputRefused
from numerics.records import (
    CHUNKS,
    FINALS,
    FORMAT,
    HEADER,
    MANIFEST,
    RESULTS,
    Array,
    Piece,
    ProcessRecord,
    Run,
    Slot,
    Unreadable,
    chunk_number,
    chunk_paths,
    join,
    missing_chunks,
    place,
    plan,
    read_arrays,
    read_chunk,
    read_finals,
    read_manifest,
)

__all__ = ["MemoryRecords", "Recorder", "RecordingStopped", "RunDirectory"]

Row: TypeAlias = Mapping[str, Any]
CHECKPOINTS, LOCK = "checkpoints", "lock"
_CHECKPOINTS_KEPT = 2
_SHARE_OF_TIME = 0.1  # at most this part of the time goes into rebuilding results.h5


class RecordingStopped(RuntimeError):
    """The run directory cannot be written any more (disk full, file too large, …); all that was committed is kept.

    Attributes:
        errno: the operating system's error number.
    """

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number


# ---- atomic files


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
    text = json.dumps(value, indent=2, default=_plain).encode()
    write_atomically(path, lambda sink: sink.write(text))


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)


# ---- rows → pieces


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
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(f"{name}/{key}" if name else str(key), inner)
    else:
        check_name("final value's", name)
        yield name, numeric_array(name, value)


# ---- recording


class Recorder(Protocol):
    """What `simulate` records into: a `RunDirectory` or `MemoryRecords`."""

    def append(self, process: str, rows: Sequence[Row] | Row) -> None:
        """Add rows of one process; they are copied."""

    def commit(self, step: int, checkpoint: Mapping[str, Any] | None = None) -> None:
        """Store all rows with index below `step` and the state from which step `step` goes on."""

    def latest_checkpoint(self) -> tuple[int, dict[str, Any]] | None:
        """Step and state to go on from."""

    def read(self) -> Run:
        """What is recorded so far."""

    def finish(self, finals: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Store the values after the last step and mark the run complete."""

    def fail(self, reason: str) -> None:
        """Mark the run as failed, keeping what it has."""


class MemoryRecords:
    """Records without a directory; same interface as `RunDirectory`."""

    def __init__(self, manifest: Mapping[str, Any] | None = None) -> None:
        self.manifest = {**(manifest or {}), "status": "running"}
        self._buffer = RowBuffer()
        self._finals: dict[str, dict[str, Array]] = {}

    def append(self, process: str, rows: Sequence[Row] | Row) -> None:
        """Add rows of one process; they are copied."""
        self._buffer.append(process, rows)

    def commit(self, step: int, checkpoint: Mapping[str, Any] | None = None) -> None:
        """Nothing to do: memory neither needs chunks nor survives the process."""

    def latest_checkpoint(self) -> None:
        """Memory has no checkpoint to go on from."""
        return

    def read(self) -> Run:
        """Return what is recorded so far."""
        pieces = self._buffer.pieces()
        names = dict.fromkeys([*pieces, *self._finals])
        series = {name: pieces[name].series if name in pieces else {} for name in names}
        return Run({name: ProcessRecord(name, s, self._finals.get(name)) for name, s in series.items()}, self.manifest)

    def finish(self, finals: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Store the values after the last step and mark the run complete."""
        self._finals = checked_finals(finals or {}, self._buffer.ranks)
        self.manifest["status"] = "complete"

    def fail(self, reason: str) -> None:
        """Mark the run as failed, keeping what it has."""
        self.manifest |= {"status": "failed", "reason": reason}


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


# ---- checkpoint states


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
        for path in checkpoint_paths(folder)[:-_CHECKPOINTS_KEPT]:
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


# ---- the run directory


class RunDirectory:
    """Writes one run directory; see the module's description for the files.

    Attributes:
        path: the folder.
        manifest: as in manifest.json.
        warnings: one sentence per file that was found damaged.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], results_every: float) -> None:
        self.path = path
        self.manifest = manifest
        self.warnings: list[str] = list(manifest.get("warnings", ()))
        self._buffer = RowBuffer()
        self._catalogue: dict[Path, dict[str, Slot]] = {}  # readable chunks, in order
        self._next_chunk = 0
        self._lock: weakref.finalize[..., Any] | None = None  # held from the first write on; calling it lets go
        self._results_every = results_every
        self._results_due = -math.inf  # time.monotonic() from which results.h5 may be rebuilt
        self._results_stale = True

    @classmethod
    def create(cls, path: str | Path, manifest: Mapping[str, Any] | None = None, *, results_every: float = 5.0) -> Self:
        """Start a run in a new or empty folder; parents are created.

        What `manifest` does not say about versions, git revision and command is filled in.

        Args:
            path: the folder.
            manifest: config, seed, device and so on; what JSON does not know is stored as text.
            results_every: seconds between rebuilds of results.h5 (more if a rebuild is slow).

        Returns:
            The directory, locked by this process.

        Raises:
            InputRefused: the path holds something already, or cannot be written.
        """
        path = Path(path)
        _refuse_occupied(path)
        full = _full_manifest(manifest or {})
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / MANIFEST, full)
        except OSError as error:
            raise InputRefused(
                f"a run directory needs a place to write, {path} is none ({error.strerror}); choose another."
            ) from None
        directory = cls(path, full, results_every)
        directory._claim()
        directory._guarded(RESULTS, directory._build_results)
        return directory

    @classmethod
    def open(cls, path: str | Path, *, results_every: float = 5.0) -> Self:
        """Return the run directory at `path`, to go on with it; refuses what is none.

        Nothing changes until the first `append`, `commit` or `finish`: that drops whatever lies beyond the newest
        valid checkpoint (everything, if there is none), and refuses if another process is writing.
        """
        path = Path(path)
        return cls(path, read_manifest(path), results_every)

    @property
    def complete(self) -> bool:
        """Whether the run reached its end."""
        return bool(self.manifest.get("status") == "complete")

    def append(self, process: str, rows: Sequence[Row] | Row) -> None:
        """Add rows of one process to the buffer; they are copied. Refuses rows that cannot be stored."""
        self._claim()
        self._buffer.append(process, rows)

    def commit(self, step: int, checkpoint: Mapping[str, Any] | None = None) -> None:
        """Store the buffered rows with index below `step` as one chunk, then the state from which `step` goes on.

        Refuses a checkpoint with something else than dicts, lists, arrays, numbers and text. Stops (RecordingStopped)
        if the disk is full or the like: what was committed before is kept, and the rows stay buffered.
        """
        self._claim()
        state, arrays = encode_state(checkpoint or {})
        self._guarded("a chunk", lambda: self._write_chunk(step))
        if checkpoint is not None:
            mark = Checkpoint(step, self._next_chunk, dict(self._buffer.counts), state, arrays)
            self._guarded("a checkpoint", lambda: mark.write(self.path, self._run_id))
        if self._results_stale and time.monotonic() >= self._results_due:
            self._guarded(RESULTS, self._build_results)

    def latest_checkpoint(self) -> tuple[int, dict[str, Any]] | None:
        """Return step and state of the newest valid checkpoint, None if there is none."""
        found = self._newest_checkpoint()
        return None if found is None else (found.step, decode_state(found.state, found.arrays))

    def read(self) -> Run:
        """Return what is recorded so far, buffered rows included."""
        stored = Run.load(self.path)
        records = dict(stored.processes)
        for process, piece in self._buffer.pieces().items():
            old = records.get(process, ProcessRecord(process, {}))
            records[process] = ProcessRecord(process, join([Piece(0, old.steps, old.series), piece]), old.finals)
        return Run(records, stored.manifest)

    def finish(self, finals: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Store all buffered rows and the values after the last step, and mark the run complete.

        Refuses a final that is not numeric or has the name of a series. Stops (RecordingStopped) if the disk is full:
        finish again once there is room.

        Args:
            finals: process → name → array or nested dict, as {"central": {"weights": w, "states": {"nu": nu}}}.
        """
        self._claim()
        flat = checked_finals(finals or {}, self._buffer.ranks)
        arrays = {f"{process}/{name}": value for process, values in flat.items() for name, value in values.items()}
        self._guarded("a chunk", lambda: self._write_chunk(None))
        self._guarded(FINALS, lambda: write_arrays(self.path / FINALS, {"run": self._run_id}, arrays))
        self._guarded(RESULTS, lambda: self._build_results(status="complete"))
        self._guarded(MANIFEST, lambda: self._note(status="complete", ended=_now()))
        self._release()

    def fail(self, reason: str) -> None:
        """Mark the run as failed and keep what it has.

        Meant for an exception handler, so it raises nothing over a full disk, and leaves a directory alone to which
        this object has written nothing.
        """
        if self._lock is None:
            return
        with suppress(RecordingStopped):
            self._guarded("a chunk", lambda: self._write_chunk(None))
            self._guarded(RESULTS, lambda: self._build_results(status="failed"))
        with suppress(OSError):
            self._note(status="failed", reason=reason, ended=_now())
        self._release()

    def __repr__(self) -> str:
        return f"<RunDirectory {self.path}: {self.manifest.get('status')}>"

    # -- taking possession

    @property
    def _run_id(self) -> str:
        return str(self.manifest["run"])

    def _claim(self) -> None:
        if self.complete:
            raise InputRefused(
                f"expected a run that can go on, and {self.path} is complete; start another in a new folder."
            )
        if self._lock is None:
            self._guarded("the lock", self._take)

    def _take(self) -> None:
        lock = weakref.finalize(self, os.close, _locked(self.path))
        try:
            self._clean()
        except BaseException:
            lock()
            raise
        self._lock = lock

    def _clean(self) -> None:
        for folder in (CHUNKS, CHECKPOINTS):
            (self.path / folder).mkdir(exist_ok=True)
        for folder in (".", CHUNKS, CHECKPOINTS):
            for leftover in (self.path / folder).glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
        self._go_back(self._newest_checkpoint())
        if self.manifest.get("status") != "running":
            self.manifest = {name: value for name, value in self.manifest.items() if name not in {"reason", "ended"}}
            self._note(status="running")

    def _go_back(self, checkpoint: Checkpoint | None) -> None:
        (self.path / FINALS).unlink(missing_ok=True)
        self._next_chunk = 0 if checkpoint is None else checkpoint.chunks
        for path in reversed(chunk_paths(self.path)):  # from the end, so that a kill here leaves no gap
            if int(path.stem) >= self._next_chunk:
                path.unlink()
        for path in checkpoint_paths(self.path):
            if checkpoint is None or int(path.stem) > checkpoint.step:
                path.unlink()
        self._buffer = RowBuffer()
        self._buffer.counts = {} if checkpoint is None else dict(checkpoint.rows)
        self._catalogue = {}
        for warning in missing_chunks(self.path):
            self._warn(warning)
        for path in chunk_paths(self.path):
            self._register(path)

    def _register(self, path: Path) -> None:
        try:
            pieces = read_chunk(path, self._run_id)
        except Unreadable as error:
            self._warn(f"{error}; its rows are missing.")
            return
        self._catalogue[path] = {process: piece.slot for process, piece in pieces.items()}
        for process, slot in self._catalogue[path].items():
            ranks = {name: len(shape) for name, (shape, _) in slot.series.items()}
            self._buffer.ranks.setdefault(process, {}).update(ranks)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock()
            self._lock = None

    def _newest_checkpoint(self) -> Checkpoint | None:
        for path in reversed(checkpoint_paths(self.path)):
            try:
                return Checkpoint.read(path, self._run_id)
            except Unreadable as error:
                self._warn(f"{error}; an earlier checkpoint is used.")
        return None

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    # -- writing

    def _guarded(self, what: str, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            step = max((int(path.stem) for path in checkpoint_paths(self.path)), default=0)
            slots = [slot for by_process in self._catalogue.values() for slot in by_process.values()]
            rows = max((slot.first + slot.count for slot in slots), default=0)
            raise RecordingStopped(
                f"recording stopped because {what} could not be written ({error.strerror or error}): {rows} steps are "
                f"kept in {self.path}, so make room there and resume the run, which goes on from step {step}.",
                error.errno,
            ) from error

    def _write_chunk(self, step: int | None) -> None:
        pieces = self._buffer.pieces(step)
        if not pieces:
            return
        path = self.path / CHUNKS / f"{self._next_chunk:06d}.npz"
        places = {process: (piece.first, piece.count) for process, piece in pieces.items()}
        arrays = {f"{process}/{name}": x for process, piece in pieces.items() for name, x in piece.series.items()}
        write_arrays(path, {"run": self._run_id, "chunk": chunk_number(path), "processes": places}, arrays)
        self._buffer.drop(pieces)
        self._catalogue[path] = {process: piece.slot for process, piece in pieces.items()}
        self._next_chunk += 1
        self._results_stale = True

    def _note(self, **changes: object) -> None:
        manifest = {**self.manifest, **changes, "warnings": list(self.warnings)}
        write_json(self.path / MANIFEST, manifest)
        self.manifest = manifest

    def _build_results(self, status: str = "running") -> None:
        started = time.monotonic()
        try:
            write_atomically(self.path / RESULTS, lambda sink: self._fill_results(sink, status))
        except Unreadable as error:  # the catalogue is now one chunk shorter
            self._warn(f"{error}; its rows are missing.")
            return self._build_results(status)
        now = time.monotonic()
        self._results_due = now + max(self._results_every, (now - started) / _SHARE_OF_TIME)
        self._results_stale = False

    def _fill_results(self, sink: io.FileIO, status: str) -> None:
        finals, _ = read_finals(self.path, self._run_id)
        processes = dict.fromkeys([name for slots in self._catalogue.values() for name in slots] + list(finals))
        with h5py.File(sink, "w", track_order=True) as file:
            file.attrs["manifest"] = _short_json({**self.manifest, "status": status, "warnings": self.warnings})
            for process in processes:
                group = file.create_group(process, track_order=True)
                slots = [slots[process] for slots in self._catalogue.values() if process in slots]
                for name, layout in plan(slots).items():
                    fill = np.nan if layout.dtype.kind == "f" else 0
                    group.create_dataset(name, layout.shape, layout.dtype, fillvalue=fill).attrs["kind"] = "series"
                for name, value in finals.get(process, {}).items():
                    group.create_dataset(name, data=value).attrs["kind"] = "final"
            for path in list(self._catalogue):
                self._copy_chunk(path, file)

    def _copy_chunk(self, path: Path, file: Any) -> None:
        try:
            pieces = read_chunk(path, self._run_id)
        except Unreadable:
            del self._catalogue[path]
            raise
        for process, piece in pieces.items():
            for name in piece.series:
                place(file[process][name], piece, name)


def _short_json(manifest: Mapping[str, Any]) -> str:
    """Return the manifest as text, without its large entries: an HDF5 attribute takes 64 KiB."""
    small = {name: value for name, value in manifest.items() if len(json.dumps(value)) < 2000}
    text = json.dumps(manifest)
    return text if len(text) < 60000 else json.dumps(small)


def _full_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    identity = {"format": FORMAT, "run": uuid.uuid4().hex, "status": "running", "created": _now()}
    try:
        return dict(json.loads(json.dumps({**environment(), **manifest, **identity}, default=_plain)))
    except (TypeError, ValueError) as error:
        raise InputRefused(f"a manifest must be a dict that JSON can hold, and this is none ({error}).") from None


def _refuse_occupied(path: Path) -> None:
    if path.is_file():
        raise InputRefused(f"a run directory needs a new folder, and {path} is a file; choose another name.")
    if (path / MANIFEST).exists():
        raise InputRefused(
            f"a run directory needs a new folder, and {path} holds a run; choose another or resume that run."
        )
    if path.is_dir() and any(entry.suffix != ".tmp" for entry in path.iterdir()):
        raise InputRefused(f"a run directory needs a new folder, and {path} is not empty; choose another.")


def _locked(folder: Path) -> int:
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go when the process ends, however it ends
    except OSError as error:
        os.close(handle)
        if error.errno not in {errno.EACCES, errno.EAGAIN}:
            raise
        raise InputRefused(
            f"a run is written by one process, and another one is writing {folder}; wait for it to end."
        ) from None
    return handle


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Return versions, git revision (None outside a checkout) and command of this program, for a manifest."""
    versions = {"python": sys.version.split()[0]}
    for package in ("central-flow-workbench", "torch", "numpy", "scipy", "cvxpy", "clarabel", "h5py", "sympy"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {"versions": versions, "git_revision": _git_revision(), "command": sys.argv}


def _git_revision() -> str | None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # an installed copy must not report the revision of the user's own repository
        return None
    command = ["git", "-C", str(root), "rev-parse", "--verify", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
