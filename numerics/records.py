"""What a run recorded: one `ProcessRecord` per process, gathered in a `Run`.

A *row* is what one process reports for one step: a dict from series name to number or array, nested names joined by
"/" (`cost/grad`). Row t belongs to the point from which step t → t+1 is taken. Rows of unequal width (eigenvalues)
are padded with NaN to the widest, and a row that lacks a series counts as NaN. *Finals* are values after the last
step. The same flat names are the attributes of a `ProcessRecord` and the datasets of `results.h5`.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from numerics.errors import InputRefused
from numerics.pieces import Array, Piece, join
from numerics.summary import Summary, summarise

__all__ = ["ProcessRecord", "Run"]

MANIFEST, RESULTS, CHUNKS, FINALS = "manifest.json", "results.h5", "chunks", "finals.npz"
HEADER = "header"  # the member of an .npz file that holds its JSON description
FORMAT = 1

_GROUPS = ("cost", "distance", "observables", "predicted_observables", "states", "states_series")
_NAN_UNLESS_RECORDED = ("predicted_loss", "predicted_gradient_norm2")


class Unreadable(ValueError):
    """A file of a run directory that is damaged or was written by something else."""


# ---- one process


class ProcessRecord:
    """What one process (discrete, midpoint, stable, central, …) produced; series and finals are attributes.

    Series have one row per step: `loss (T,)`, `predicted_loss (T,)`, `gradient_norm2 (T,)`, `eigenvalues (T, k)` and
    `variances (T, k)` NaN-padded, largest first, `critical (T,)`, `threshold (T,)`, `weights_series (T, n)`.
    Groups are dicts of series: `cost`, `states_series`, `observables`. Finals: `weights (n,)`, `states`.
    """

    loss: Array
    predicted_loss: Array
    gradient_norm2: Array
    predicted_gradient_norm2: Array
    eigenvalues: Array
    variances: Array
    critical: Array
    threshold: Array
    displacement_squares: Array
    weights_series: Array
    weights: Array
    cost: dict[str, Array]
    distance: dict[str, Array]
    observables: dict[str, Array]
    predicted_observables: dict[str, Array]
    states_series: dict[str, Array]
    states: dict[str, Array]

    def __init__(self, name: str, series: Mapping[str, Array], finals: Mapping[str, Array] | None = None) -> None:
        self.name = name
        self.series = dict(series)
        self.finals = dict(finals or {})
        self.steps = max((len(values) for values in self.series.values()), default=0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "series" not in self.__dict__:
            raise AttributeError(name)
        values = self.finals | self.series
        if name in values:
            return values[name]
        group = {key[len(name) + 1 :]: value for key, value in values.items() if key.startswith(name + "/")}
        if group or name in _GROUPS:
            return group
        if name in _NAN_UNLESS_RECORDED and self.steps:
            return np.full(self.steps, np.nan)
        raise AttributeError(
            f"process {self.name!r} recorded no {name!r}; it has {', '.join(self.names) or 'nothing'}."
        )

    def __getitem__(self, name: str) -> Any:
        """Return a series, final or group by its full name, for instance `record["cost/grad"]`.

        Raises:
            InputRefused: there is none of that name.
        """
        try:
            return getattr(self, name)
        except AttributeError as error:
            raise InputRefused(str(error)) from None

    def __contains__(self, name: object) -> bool:
        return name in self.series or name in self.finals

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name.split("/")[0] for name in self.names)})

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of all series, then of all finals."""
        return (*self.series, *self.finals)

    def __repr__(self) -> str:
        return f"<ProcessRecord {self.name}: {self.steps} steps; {', '.join(self.names)}>"


# ---- one run


class Run:
    """All processes of one run: `run["central"].predicted_loss`, `run.summary()`, `run.distance(a, b)`.

    Attributes:
        processes: name → ProcessRecord.
        manifest: config, versions, seed, device, command, status.
        complete: whether the run reached its end.
        warnings: one sentence per file that could not be read, or per other event while recording.
    """

    def __init__(self, processes: Mapping[str, ProcessRecord], manifest: Mapping[str, Any] | None = None) -> None:
        self.processes = dict(processes)
        self.manifest = dict(manifest or {"status": "complete"})
        self.complete = self.manifest.get("status") == "complete"
        self.warnings = tuple(self.manifest.get("warnings", ()))

    def __getitem__(self, process: str) -> ProcessRecord:
        if process not in self.processes:
            raise InputRefused(
                f"the run has the processes {', '.join(self.processes) or '(none)'}, not {process!r}; "
                f"ask for one of them or simulate with processes=(…, {process!r})."
            )
        return self.processes[process]

    def __contains__(self, process: object) -> bool:
        return process in self.processes

    def __iter__(self) -> Iterator[str]:
        return iter(self.processes)

    @property
    def steps_done(self) -> int:
        """Rows of the process that got farthest."""
        return max((record.steps for record in self.processes.values()), default=0)

    @property
    def progress(self) -> str:
        """How far the run got, in words."""
        if self.complete:
            return f"{self.steps_done} steps, complete"
        config = self.manifest.get("config")
        asked = self.manifest.get("steps", config.get("steps") if isinstance(config, Mapping) else None)
        done = f"{self.steps_done} of {asked} steps" if asked is not None else f"{self.steps_done} steps"
        status = "interrupted" if self.interrupted else self.manifest.get("status", "running")
        return f"{done}, {status}, not complete"

    @property
    def interrupted(self) -> bool:
        """Whether someone stopped the run with Ctrl-C."""
        return str(self.manifest.get("reason", "")).startswith(KeyboardInterrupt.__name__)

    @property
    def observables(self) -> dict[str, dict[str, Array]]:
        """Process → observable → series, for the processes that recorded any."""
        return {name: record.observables for name, record in self.processes.items() if record.observables}

    def distance(self, a: str, b: str) -> Array:
        """Return the Euclidean distance of the weights of processes `a` and `b`, step by step, shape (T,).

        A recorded series `distance/…` serves where the weights themselves were not kept.

        Raises:
            InputRefused: neither is recorded, or the weights differ in size.
        """
        first, second = self[a], self[b]
        if "weights_series" in first and "weights_series" in second:
            return _row_distances(a, first.weights_series, b, second.weights_series)
        for record, other in ((first, b), (second, a)):
            if other in record.distance:
                return record.distance[other]
        raise InputRefused(
            f"the distance of {a!r} and {b!r} needs weights_series of both or a recorded distance, and this run kept "
            f"neither; simulate again and keep the weights."
        )

    def summary(self) -> Summary:
        """Return the headline figures of THEORY section 8."""
        return summarise(self)

    def to_csv(self, path: str | Path) -> Path:
        """Write every scalar series as a column `process/series`, one line per step; NaN becomes an empty cell.

        Returns:
            The path.

        Raises:
            InputRefused: the file cannot be written there.
        """
        columns = {
            f"{process}/{name}": values
            for process, record in self.processes.items()
            for name, values in record.series.items()
            if values.ndim == 1
        }
        try:
            with Path(path).open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["step", *columns])
                writer.writerows([t, *(_cell(x, t) for x in columns.values())] for t in range(self.steps_done))
        except OSError as error:
            raise InputRefused(
                f"to_csv needs a writable file name, {path} is not ({error.strerror}); choose another."
            ) from None
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the run of a run directory, finished or half-written, or of a `results.h5` on its own.

        Refuses (InputRefused) what is no run or was written in another format. Changes nothing and needs no lock.
        """
        path = Path(path)
        if path.is_file():
            return cls(*_read_results(path))
        manifest = read_manifest(path)
        warnings = list(manifest.get("warnings", ()))
        if manifest.get("status") == "complete":
            try:
                return cls(_read_results(path / RESULTS)[0], manifest)
            except InputRefused as refusal:
                warnings.append(f"{refusal} The records were read from the chunks.")
        records, more = read_chunked(path, str(manifest["run"]))
        return cls(records, {**manifest, "warnings": list(dict.fromkeys(warnings + more))})

    def __repr__(self) -> str:
        noted = f"; {len(self.warnings)} warnings" if self.warnings else ""
        return f"<Run {', '.join(self.processes) or 'without processes'}: {self.progress}{noted}>"


def _cell(values: Array, t: int) -> object:
    value = values[t].item() if t < len(values) else math.nan
    return "" if isinstance(value, float) and math.isnan(value) else value


def _row_distances(a: str, first: Array, b: str, second: Array) -> Array:
    rows = min(len(first), len(second))
    if first.shape[1:] != second.shape[1:]:
        raise InputRefused(
            f"the distance of {a!r} and {b!r} needs weights of one size, got {first.shape[1:]} and {second.shape[1:]}; "
            f"compare processes of one problem."
        )
    differences = (first[t].astype(float) - second[t] for t in range(rows))
    return np.array([np.linalg.norm(difference) for difference in differences], dtype=float)


# ---- reading a run directory


def read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return header and arrays of an .npz file written by a run directory.

    Raises:
        Unreadable: damaged, or not such a file. (The zip container checks every member's CRC.)
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop(HEADER).tobytes())
        if header["format"] == FORMAT:
            return header, arrays
    except Exception as error:  # whatever foreign bytes make zipfile, zlib, numpy or json raise
        raise Unreadable(f"{path.name} is damaged or foreign ({type(error).__name__})") from None
    raise Unreadable(f"{path.name} has format {header['format']!r} where this version reads {FORMAT}")


def read_chunk(path: Path, run_id: str) -> dict[str, Piece]:
    """Return the pieces of one chunk by process.

    Raises:
        Unreadable: damaged, or it belongs to another run or another place in this one.
    """
    header, arrays = read_arrays(path)
    if header.get("run") != run_id or header.get("chunk") != chunk_number(path):
        raise Unreadable(f"{path.name} belongs to another run or place")
    try:
        return {
            process: Piece(
                first, count, {n.split("/", 1)[1]: x for n, x in arrays.items() if n.split("/", 1)[0] == process}
            )
            for process, (first, count) in header["processes"].items()
        }
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise Unreadable(f"{path.name} has a damaged header") from None


def chunk_number(path: Path) -> int | None:
    """Return the number in a chunk's file name, None for a file which is no chunk."""
    return int(path.stem) if path.suffix == ".npz" and path.stem.isdecimal() else None


def chunk_paths(folder: Path) -> list[Path]:
    """Return the files of a run directory that are named like chunks, in order."""
    found = [path for path in (folder / CHUNKS).glob("*.npz") if chunk_number(path) is not None]
    return sorted(found, key=lambda path: int(path.stem))


def missing_chunks(folder: Path) -> list[str]:
    """Return a warning for every chunk that is absent though a later one is there."""
    numbers = [int(path.stem) for path in chunk_paths(folder)]
    absent = sorted(set(range(max(numbers, default=0))) - set(numbers))
    return [f"chunk {number:06d}.npz is absent; its rows are missing." for number in absent]


def read_chunked(folder: Path, run_id: str) -> tuple[dict[str, ProcessRecord], list[str]]:
    """Return all records of a run directory from its chunks and finals, and one warning per file that was skipped."""
    pieces: dict[str, list[Piece]] = {}
    warnings = missing_chunks(folder)
    for path in chunk_paths(folder):
        try:
            for process, piece in read_chunk(path, run_id).items():
                pieces.setdefault(process, []).append(piece)
        except Unreadable as error:
            warnings.append(f"{error}; its rows are missing.")
    finals, more = read_finals(folder, run_id)
    names = dict.fromkeys([*pieces, *finals])
    records = {name: ProcessRecord(name, join(pieces.get(name, [])), finals.get(name)) for name in names}
    return records, warnings + more


def read_finals(folder: Path, run_id: str) -> tuple[dict[str, dict[str, Array]], list[str]]:
    """Return process → final values, empty while there are none, and a warning if the file is damaged."""
    finals: dict[str, dict[str, Array]] = {}
    if not (folder / FINALS).exists():
        return finals, []
    try:
        header, arrays = read_arrays(folder / FINALS)
    except Unreadable as error:
        return finals, [f"{error}; the final values are missing."]
    if header.get("run") != run_id:
        return finals, [f"{FINALS} belongs to another run; the final values are missing."]
    for name, value in arrays.items():
        process, _, rest = name.partition("/")
        finals.setdefault(process, {})[rest] = value
    return finals, []


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a run directory.

    Raises:
        InputRefused: the folder holds no run.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError:
        what = "holds no manifest.json" if folder.is_dir() else "is not a folder"
        raise InputRefused(
            f"expected a run directory, and {folder} {what}; give the folder that a run wrote."
        ) from None
    except ValueError:
        raise InputRefused(
            f"expected a run directory, and {folder / MANIFEST} is no JSON; restore that file."
        ) from None
    if not isinstance(manifest, dict) or "run" not in manifest or manifest.get("format") != FORMAT:
        raise InputRefused(
            f"expected a run directory of format {FORMAT}, and {folder / MANIFEST} describes something else; "
            f"give the folder that a run wrote."
        )
    return manifest


def _read_results(path: Path) -> tuple[dict[str, ProcessRecord], dict[str, Any]]:
    try:
        with h5py.File(path, "r") as file:
            manifest = json.loads(file.attrs["manifest"])
            return {name: _read_group(name, group) for name, group in file.items()}, manifest
    except Exception as error:  # h5py raises OSError, KeyError, RuntimeError … on foreign or damaged files
        raise InputRefused(
            f"expected the results.h5 of a run, and {path} is damaged or foreign ({type(error).__name__}); "
            f"give the run's folder, whose chunks may still be whole."
        ) from None


def _read_group(process: str, group: Any) -> ProcessRecord:
    found: dict[str, dict[str, Array]] = {"series": {}, "final": {}}
    for name, dataset in _datasets(group, ""):
        found[dataset.attrs["kind"]][name] = dataset[()]
    return ProcessRecord(process, found["series"], found["final"])


def _datasets(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, item in group.items():  # in the order of creation, which visititems does not keep
        if isinstance(item, h5py.Group):
            yield from _datasets(item, f"{prefix}{name}/")
        else:
            yield prefix + name, item
