"""A grid of runs: its cells, each a command line of `run`, and the processes that work through them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from derivations.cli.refusal import CommandRefused

GRIDS = "grid"  # tables of the TOML file, each a grid of its own on top of the settings that all have in common
RUN = "import sys; from derivations.cli import main; sys.exit(main())"
LABEL = "rule"  # always part of a cell's name


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        label: the settings that tell it from the others.
        arguments: of `centralflow run`.
        folder: its run directory.
    """

    label: str
    arguments: tuple[str, ...]
    folder: Path

    @property
    def log(self) -> Path:
        """What the run said."""
        return self.folder.with_name(f"{self.folder.name}.log")


def cells(flags: Mapping[str, Sequence[Any]], config: Mapping[str, Any], root: Path) -> list[Cell]:
    """Return the cells of a grid: all combinations of the alternatives, in order.

    Args:
        flags: setting → alternatives, which replace those of the file.
        config: a TOML file's contents: setting → value or list of alternatives, and tables `[[grid]]` of the same.
        root: where the run directories go.

    Raises:
        CommandRefused: the file has something else than such tables under `grid`.
    """
    grids = config.get(GRIDS, [{}])
    if not isinstance(grids, list) or not all(isinstance(grid, dict) for grid in grids):
        raise CommandRefused(f"{GRIDS!r} in the TOML file must be tables, [[{GRIDS}]], got {grids!r}.")
    common = {key: value for key, value in config.items() if key != GRIDS}
    found = [settings for grid in grids for settings in _combinations({**common, **grid, **flags})]
    varying = {key for key in {k for s in found for k in s} if len({str(s.get(key)) for s in found}) > 1}
    made = [_cell(settings, varying, root) for settings in found]
    return list({cell.folder: cell for cell in made}.values())


def _combinations(grid: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    alternatives = [value if isinstance(value, list | tuple) else [value] for value in grid.values()]
    for values in product(*alternatives):
        yield dict(zip(grid, values, strict=True))


def _cell(settings: Mapping[str, Any], varying: set[str], root: Path) -> Cell:
    named = [key for key in settings if key == LABEL or key in varying]
    label = ", ".join(f"{key} {_text(settings[key])}" for key in named) or "default settings"
    arguments = tuple(text for key, value in settings.items() for text in _argument(key, value))
    # Other settings are another run: the name holds a digest of all of them.
    digest = hashlib.sha256(json.dumps(sorted(arguments)).encode()).hexdigest()[:8]
    short = re.sub(r"[^\w.=-]+", "_", ",".join(_text(settings[key]) for key in named))[-80:].lstrip(".")
    return Cell(label, arguments, root / f"{short or 'run'}-{digest}")


def _text(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _argument(key: str, value: Any) -> tuple[str, ...]:
    flag = "--" + key.replace("_", "-")
    return ((flag,) if value else ()) if isinstance(value, bool) else (f"{flag}={value}",)


def is_complete(cell: Cell) -> bool:
    """Return whether the cell's run reached its end, now or in an earlier sweep."""
    return _status(cell) == "complete"


def _status(cell: Cell) -> str | None:
    try:
        return str(json.loads((cell.folder / "manifest.json").read_text(encoding="utf-8")).get("status"))
    except (OSError, ValueError, AttributeError):
        return None


class Sweep:
    """Works through cells with several processes; one that fails leaves the others alone.

    Attributes:
        failures: cell → the sentence with which it failed.
    """

    def __init__(self, planned: Sequence[Cell], jobs: int) -> None:
        self.cells, self.jobs = list(planned), jobs
        self.failures: dict[Cell, str] = {}
        self._going: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, after_each: Callable[[], object]) -> None:
        """Run every cell that is not complete, going on with what an earlier sweep left; call back after each."""
        waiting = [cell for cell in self.cells if not is_complete(cell)]
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = {pool.submit(self._run, cell): cell for cell in waiting}
            try:
                for future in as_completed(futures):
                    sentence = future.result()
                    if sentence:
                        self.failures[futures[future]] = sentence
                    after_each()
            except BaseException:
                self._stop()
                raise

    def _run(self, cell: Cell) -> str:
        """Run one cell; return the sentence with which it failed, or nothing."""
        if self._stopped:
            return "not started"
        resume = () if _status(cell) is None else ("--resume",)
        command = [sys.executable, "-P", "-c", RUN, "run", *cell.arguments, f"--out={cell.folder}", *resume]
        environment = {"OMP_NUM_THREADS": "1"} | os.environ  # several processes share the cores
        with cell.log.open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            self._going.add(process)
            try:
                code = process.wait()
            finally:
                self._going.discard(process)
        return _sentence(code, cell.log)

    def _stop(self) -> None:
        self._stopped = True
        for process in tuple(self._going):
            process.terminate()


def _sentence(code: int, log: Path) -> str:
    if code == 0:
        return ""
    if code < 0:
        return (
            f"ended by signal {-code} ({signal.Signals(-code).name}); the same sweep goes on from its last checkpoint"
        )
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("centralflow: ", "centralflow run: error: "))]
    last = (said or lines or [f"ended with code {code}"])[-1]
    return re.sub(r"^centralflow( run: error)?: ", "", last)
