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
import time
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from numerics.atomic import plain, write_arrays, write_atomically, write_json
from numerics.checkpoint import CHECKPOINTS, Checkpoint, checkpoint_paths, decode_state, encode_state
from numerics.environment import environment
from numerics.errors import InputRefused
from numerics.memory_records import MemoryRecords, Recorder
from numerics.pieces import Piece, Slot, join, place, plan
from numerics.records import (
    CHUNKS,
    FINALS,
    FORMAT,
    MANIFEST,
    RESULTS,
    ProcessRecord,
    Run,
    Unreadable,
    chunk_number,
    chunk_paths,
    missing_chunks,
    read_chunk,
    read_finals,
    read_manifest,
)
from numerics.rows import Row, RowBuffer, checked_finals

__all__ = ["MemoryRecords", "Recorder", "RecordingStopped", "RunDirectory"]

LOCK = "lock"
_SHARE_OF_TIME = 0.1  # at most this part of the time goes into rebuilding results.h5


class RecordingStopped(RuntimeError):
    """The run directory cannot be written any more (disk full, file too large, …); all that was committed is kept.

    Attributes:
        errno: the operating system's error number.
    """

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number


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
        return dict(json.loads(json.dumps({**environment(), **manifest, **identity}, default=plain)))
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
