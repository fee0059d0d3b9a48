"""What `simulate` records into, and the records that live in memory only."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numerics.pieces import Array
from numerics.records import ProcessRecord, Run
from numerics.rows import Row, RowBuffer, checked_finals

__all__ = ["MemoryRecords", "NoRecords", "Recorder"]


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


class NoRecords:
    """Records nothing: for the processes beside the one that leads a sharded run; same interface as `RunDirectory`."""

    def __init__(self, manifest: Mapping[str, Any] | None = None) -> None:
        self.manifest = {**(manifest or {}), "status": "running"}

    def append(self, process: str, rows: Sequence[Row] | Row) -> None:
        """Drop rows."""

    def commit(self, step: int, checkpoint: Mapping[str, Any] | None = None) -> None:
        """Nothing to do."""

    def latest_checkpoint(self) -> None:
        """The leading process has it."""
        return

    def read(self) -> Run:
        """Return a run without processes."""
        return Run({}, self.manifest)

    def finish(self, finals: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Mark the run complete."""
        self.manifest["status"] = "complete"

    def fail(self, reason: str) -> None:
        """Mark the run as failed."""
        self.manifest |= {"status": "failed", "reason": reason}
