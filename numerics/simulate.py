"""Run the optimizer and the flows that should predict it from one starting point, and record everything."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from numerics.boundary import CPU, normal, seeded_generator, to_numpy, to_tensor
from numerics.conditions import conditions
from numerics.devices import exact_arithmetic
from numerics.errors import InputRefused
from numerics.lowered import LoweredRule, States, lower
from numerics.memory_records import MemoryRecords, NoRecords
from numerics.problem import NonFiniteLoss, Problem
from numerics.processes import (
    AveragedFlow,
    Context,
    Discrete,
    LongSteps,
    Midpoint,
    Process,
    ProcessStopped,
    Rod,
    StationaryFlow,
)
from numerics.processes.process import tracker
from numerics.records import Run
from numerics.run_directory import RunDirectory
from theory import Derivation, derive

# What ends one process and not the run: its own word, and numbers that overflowed where finite ones are asked for.
# torch has the last one, its type stubs have not.
_STOPS = (ProcessStopped, NonFiniteLoss, InputRefused, torch.linalg.LinAlgError)  # type: ignore[attr-defined]
_Recorder = RunDirectory | MemoryRecords | NoRecords

# Flows by name: what distinguishes each from the others.
FLOWS: dict[str, dict[str, Any]] = {
    "stable": dict(oscillates=False),
    "central": dict(oscillates=True),
    "inertial": dict(oscillates=True, form="inertial"),
    "eliminated": dict(oscillates=True, form="eliminated"),
    "cross": dict(oscillates=True, cross_term=True),
    "ablated": dict(oscillates=True, regularises=False),
}
ALL = ("discrete", "midpoint", *FLOWS, "stationary", "rod")
PROCESSES = ("discrete", "midpoint", "stable", "central")
# Weights of every step are kept while all processes together need no more than this many numbers.
KEEP_NUMBERS = 64_000_000
# Rows are committed to disk this often, in seconds.
COMMIT_EVERY = 5.0
# Relative difference of the loss at the starting point up to which a resumed run is the same: another device rounds differently.
SAME_LOSS = 1e-5


def simulate(
    problem: Problem,
    rule: Any,
    hyper: Mapping[str, Any],
    steps: int,
    *,
    warm_start: int = 0,
    state: Mapping[str, Any] | None = None,
    kick: float = 0.0,
    processes: Sequence[str] = PROCESSES,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    check: bool = True,
    substeps: int = 1,
    stride: int = 1,
    deterministic: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Train, and integrate the flows beside it.

    Args:
        problem: loss and starting point.
        rule: an update rule, the name of an installed one, or the path of a rule file.
        hyper: hyperparameters by name; text is a schedule in the step counter t, a bool an option of the rule.
        steps: optimizer steps to compare.
        warm_start: optimizer steps taken first by all processes together, not counted in ``steps``.
        state: the optimizer's own state before the update at w₀, by the rule's names.
        kick: displacement of the discrete run at the start, relative to ‖w₀‖, along the top mode of P⁻¹H.
        processes: which of discrete, midpoint, stable, central; for rules with momentum inertial and eliminated, the forms of the
            central flow that replace the filter states by one pole of equal lag, or by their value at a constant gradient; for adaptive
            rules cross, the central flow that keeps g∘∇⟨H,Σ⟩ in E[g²] (T5), ablated, the one without ½∇⟨H,Σ⟩ in ẇ, and stationary, where the preconditioner sits at its fixed point; rod.
        seed: of the kick's sign and all random directions.
        out: run directory, or None to keep everything in memory.
        resume: continue the run in ``out``.
        check: compare the derivatives with finite differences first.
        substeps: flow steps per optimizer step.
        stride: optimizer steps per flow step, at most; with more than 1 the rows in between are interpolated.
        deterministic: use algorithms whose sums have a fixed order; only graphics cards have others.
        progress: called with (steps done, steps) after each step.

    Returns:
        The run; also when a process stopped early, with the reason in ``manifest["stopped"]``.

    Raises:
        InputRefused: If an argument does not fit; RuleRefused if the rule does not.
    """
    _refuse_arguments(steps, warm_start, kick, processes, substeps, out, resume)
    numbers, choices = _split(hyper)
    derivation = derive(rule, **choices)
    _refuse_undefined(derivation, processes)
    emitted = derivation.emitted_at_rest if "stationary" in processes else derivation.emitted
    lowered = lower(emitted, numbers, problem.blocks, problem.w0)
    _refuse_stride(stride, substeps, processes, lowered)
    derivation.certify(numbers)
    start = lowered.pack(state)
    config = dict(
        rule=derivation.rule.name,
        rule_file=str(rule) if str(rule).endswith(".py") else None,
        hyper={k: str(v) if callable(v) else v for k, v in hyper.items()},
        steps=steps,
        warm_start=warm_start,
        kick=kick,
        processes=list(processes),
        seed=seed,
        substeps=substeps,
        deterministic=deterministic,
        n=problem.n,
        dtype=str(problem.dtype),
        start=_digest(problem.w0, *start),
        **({"problem": problem.settings} if problem.settings else {}),
        **({"stride": stride} if stride > 1 else {}),
    )
    with exact_arithmetic(deterministic=deterministic):
        if check:
            problem.check(seed).require()
        recorder = _recorder(out, resume, config, problem)
        try:
            return _Simulation(problem, lowered, config, recorder, start).run(progress)
        except BaseException as error:
            recorder.fail(f"{type(error).__name__}: {error}")
            raise


def iterates(
    problem: Problem,
    rule: Any,
    hyper: Mapping[str, Any],
    *,
    warm_start: int = 0,
    kick: float = 0.0,
    seed: int = 0,
    state: Mapping[str, Any] | None = None,
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """The optimizer's own path, as the discrete process of `simulate` takes it.

    Yields:
        Weights, and the states before the update there, by name; without end.
    """
    numbers, choices = _split(hyper)
    lowered = lower(derive(rule, **choices).emitted, numbers, problem.blocks, problem.w0)
    w, states = _warm_up(problem, lowered, warm_start, lowered.pack(state))
    w = _kicked(Context(problem, lowered, False, seed), w, states, kick)
    while True:
        yield w, lowered.unpack(states)
        w, states = lowered.f.step(w, problem.gradient(w)[1], states)


class _Simulation:
    """The loop over steps: every process in order, rows recorded, checkpoints committed."""

    def __init__(
        self,
        problem: Problem,
        rule: LoweredRule,
        config: dict[str, Any],
        recorder: _Recorder,
        start: States,
    ) -> None:
        self.config, self.recorder, self.problem = config, recorder, problem
        keep = config["steps"] * problem.n * len(config["processes"]) <= KEEP_NUMBERS
        self.context = Context(problem, rule, keep, config["seed"])
        self.stopped: dict[str, str] = {}
        self.done = 0
        w, states = _warm_up(problem, rule, config["warm_start"], start)
        self.processes = self._build(w, states)

    def _build(self, w: Tensor, states: States) -> dict[str, Process]:
        names, context = self.config["processes"], self.context
        flows = [name for name in names if name not in {"discrete", "midpoint"}]
        if flows:
            _refuse_memoryless(self.problem, context.rule, w, states)
        discrete = Discrete(context, _kicked(context, w, states, self.config["kick"]), states)
        built: dict[str, Process] = {}
        if {"discrete", "midpoint"} & set(names):
            built["discrete"] = discrete
        if "midpoint" in names or (flows and "discrete" in built):
            built["midpoint"] = Midpoint(context, discrete)
        return built | {name: self._flow(name, w, states) for name in flows}

    def _flow(self, name: str, w: Tensor, states: States) -> AveragedFlow | Rod:
        kinds: dict[str, Any] = {"rod": Rod, "stationary": StationaryFlow}
        if (stride := self.config.get("stride", 1)) > 1:
            return LongSteps(self.context, w, states, name, stride=stride, **FLOWS[name])
        kind = kinds.get(name, AveragedFlow)
        flow: AveragedFlow | Rod = kind(
            self.context, w, states, name, substeps=self.config["substeps"], **FLOWS.get(name, {})
        )
        return flow

    def run(self, progress: Callable[[int, int], None] | None) -> Run:
        """Make all remaining steps and return the run."""
        self._resume()
        steps, committed = self.config["steps"], time.monotonic()
        for t in range(self.done, steps):
            for name, process in self.processes.items():
                self.recorder.append(name, self._row(name, process, t))
            self.done = t + 1
            if time.monotonic() - committed > COMMIT_EVERY:
                self.recorder.commit(self.done, self._state())
                committed = time.monotonic()
            if progress is not None:
                progress(self.done, steps)
        self.recorder.manifest["stopped"] = self.stopped
        self.recorder.manifest["assumptions"] = conditions(self.recorder.read(), self.context.rule, self.stopped)
        self.recorder.finish({n: _numpy(p.finals()) for n, p in self.processes.items()})
        return self.recorder.read()

    def _row(self, name: str, process: Process, t: int) -> dict[str, Any]:
        if name in self.stopped or (name == "midpoint" and "discrete" in self.stopped):
            return {}
        middle = self.processes.get("midpoint")
        if isinstance(process, AveragedFlow | Rod) and isinstance(middle, Midpoint) and "discrete" not in self.stopped:
            process.displacement = middle.displacement
        try:
            row: dict[str, Any] = _numpy(process.step())
            return row
        except _STOPS as error:
            self.stopped[name] = f"step {t}: {str(error).splitlines()[0].rstrip('.')}."
            return {}

    def _state(self) -> dict[str, Any]:
        return {
            "processes": {n: _numpy(dict(p.state())) for n, p in self.processes.items()},
            "stopped": dict(self.stopped),
        }

    def _resume(self) -> None:
        found = self.problem.from_leader(self.recorder.latest_checkpoint())
        if found is None:
            return
        self.done, saved = found
        self.stopped = dict(saved["stopped"])
        for name, process in self.processes.items():
            process.restore(_tensors(saved["processes"][name], self.problem.w0))


def _refuse_arguments(
    steps: int,
    warm_start: int,
    kick: float,
    processes: Sequence[str],
    substeps: int,
    out: str | Path | None,
    resume: bool,
) -> None:
    if not isinstance(steps, int) or steps < 1 or not isinstance(warm_start, int) or warm_start < 0:
        raise InputRefused(
            f"steps must be an integer ≥ 1 and warm_start one ≥ 0, got steps={steps!r}, warm_start={warm_start!r}."
        )
    if not np.isfinite(kick):
        raise InputRefused(f"kick must be a finite number (a relative displacement such as 1e-3), got {kick!r}.")
    unknown = [p for p in processes if p not in ALL]
    if unknown or not processes:
        raise InputRefused(
            f"processes must be some of {', '.join(ALL)}, got {unknown[0]!r}."
            if unknown
            else "processes must name at least one process, got none."
        )
    if not isinstance(substeps, int) or substeps < 1:
        raise InputRefused(f"substeps must be an integer ≥ 1, got {substeps!r}.")
    if resume and out is None:
        raise InputRefused("resume=True needs out=, the run directory to continue, got None.")


def _refuse_stride(stride: int, substeps: int, processes: Sequence[str], rule: LoweredRule) -> None:
    if not isinstance(stride, int) or isinstance(stride, bool) or stride < 1:
        raise InputRefused(f"stride must be an integer ≥ 1 (optimizer steps per flow step), got {stride!r}.")
    if stride > 1 and substeps > 1:
        raise InputRefused(
            f"stride must be 1 with substeps > 1, got {stride} with substeps={substeps}; use one of them."
        )
    short = [name for name in ("stationary", "rod") if name in processes]
    if stride > 1 and short:
        raise InputRefused(
            f"stride must be 1 with the process {short[0]!r}, which makes a flow step at every optimizer step, got {stride}; leave "
            "one of them out."
        )
    if stride > 1 and (rule.filters or rule.matrix):
        why = (
            "a matrix preconditioner (a long step may leave the positive definite matrices)"
            if rule.matrix
            else "momentum (its filter oscillates, which long steps cannot follow)"
        )
        raise InputRefused(f"stride must be 1 for a rule with {why} such as {rule.name!r}, got {stride}; leave it out.")


def _refuse_undefined(derivation: Derivation, processes: Sequence[str]) -> None:
    name = derivation.rule.name
    if "ablated" in processes and not derivation.adapts:
        raise InputRefused(
            f"the process 'ablated' does not exist for the rule {name!r}: its preconditioner is constant, so without ½∇⟨H,Σ⟩ no "
            "oscillation can keep the margin (ℬ = 0); leave it out of processes."
        )


def _split(hyper: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Numbers, and choices for the derivation: options and schedules."""
    choices = {k: v for k, v in hyper.items() if isinstance(v, bool | str) or callable(v)}
    return {k: v for k, v in hyper.items() if k not in choices}, choices


def _digest(*start: Tensor) -> str:
    """A short name of the numbers from which a run starts."""
    return hashlib.sha256(b"".join(to_numpy(x).tobytes() for x in start)).hexdigest()[:16]


def _recorder(out: str | Path | None, resume: bool, config: dict[str, Any], problem: Problem) -> _Recorder:
    manifest = {
        "config": config,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "device": str(problem.device),
        "dtype": str(problem.dtype),
        "seed": config["seed"],
        "loss_at_w0": float(problem.value(problem.w0)),
    }
    if out is None:
        return MemoryRecords(manifest)
    make = _reopen if resume else RunDirectory.create
    return problem.on_leader(lambda: make(out, manifest)) or NoRecords(manifest)


def _reopen(out: str | Path, manifest: dict[str, Any]) -> RunDirectory:
    """The run in a directory, to go on with, if it is the same: settings, starting point and, to round-off, loss.

    Raises:
        InputRefused: If it is another run, or complete.
    """
    directory = RunDirectory.open(out)
    before, now = (m.get("loss_at_w0", np.nan) for m in (directory.manifest, manifest))
    if directory.manifest.get("config") != manifest["config"] or not np.isclose(before, now, rtol=SAME_LOSS, atol=0):
        raise InputRefused(
            f"the run in {out} was made with other settings than given now; resume with the same problem, rule, hyperparameters, steps and seed, or use another directory."
        )
    if directory.complete:
        raise InputRefused(f"the run in {out} is complete, so there is nothing to resume; use another directory.")
    return directory


def _warm_up(problem: Problem, rule: LoweredRule, count: int, states: States) -> tuple[Tensor, States]:
    w = problem.w0
    for _ in range(count):
        _, g = problem.gradient(w)
        w, states = rule.f.step(w, g, states)
    return w, states


def _kicked(context: Context, w: Tensor, states: States, kick: float) -> Tensor:
    """W moved by kick·‖w‖ along the top mode of P⁻¹H; the sign of a unit kick is drawn from the seed."""
    if not kick:
        return w
    local = context.problem.linearise(w)
    a = context.rule.select(context.rule.f.step(w, local.grad, states)[1])
    U = tracker(context).top(local.hessian_product, context.preconditioner(a)).U[:, 0]
    sign = 1.0 if float(normal((1,), seeded_generator(context.seed), w)) >= 0 else -1.0
    # An eigenvector has no sign of its own: fix it by its largest entry.
    U = U * torch.sign(U[U.abs().argmax()])
    moved: Tensor = w + sign * kick * w.norm() * U / U.norm()
    return moved


def _refuse_memoryless(problem: Problem, rule: LoweredRule, w: Tensor, states: States) -> None:
    filters = rule.unit_filters(states)
    memory = rule.f.memory(rule.select(states), filters, filters, w)
    if not isinstance(memory, Tensor) and memory == 0:
        raise InputRefused(
            f"the accumulators of {rule.name!r} have no memory at these hyperparameters (∂f/∂a is singular, as with beta2 = 0), so no flow exists; "
            'use a positive decay, or processes=("discrete", "midpoint").'
        )


def _numpy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return to_numpy(value)
    if isinstance(value, Mapping):
        return {k: _numpy(v) for k, v in value.items()}
    return [_numpy(v) for v in value] if isinstance(value, list | tuple) else value


def _tensors(value: Any, like: Tensor) -> Any:
    if isinstance(value, np.ndarray):
        return (
            to_tensor(value, like)
            if value.dtype.kind == "f"
            else torch.as_tensor(
                value.tolist(), dtype=torch.uint8 if value.dtype == np.uint8 else torch.int64, device=CPU
            )
        )
    if isinstance(value, Mapping):
        return {k: _tensors(v, like) for k, v in value.items()}
    return [_tensors(v, like) for v in value] if isinstance(value, list | tuple) else value
