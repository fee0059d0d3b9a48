"""The emitted code computes the expressions of the derivation: at random numbers, function by function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree
from derivations.check.emitted import Case, Typed, signatures
from derivations.check.subject import Subject


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    n = subject.layout.n
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject, first=2),
        "shifts": draw.shifts(subject),
        **{name: draw.vectors(n) for name in ("w", "g", "y", "y2", "q", "T")},
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    import torch

    from numerics.lowered import lower

    torch.set_num_threads(1)
    like = torch.zeros(subject.layout.n, dtype=torch.float64)
    emitted = subject.d.emitted
    lowered = lower(emitted, sample["hyper"], subject.layout.blocks, like)
    case, arguments, errors = Case(subject, sample), signatures(emitted.source), [0.0]
    for expected in case.expectations():
        function: Callable[..., Any] = getattr(lowered.f, expected.name)
        values = list(_flat(function(*(_tensors(case, case.argument(n)) for n in arguments[expected.name]))))
        for value, (numbers, shape) in zip(values, expected.results, strict=True):
            right = subject.layout.reduced(numbers, shape)
            got = np.broadcast_to(np.asarray(value), right.shape)
            errors.append(
                agree(f"result of the function {expected.name}", got, right, expected.tolerance, expected.scale)
            )
    return Evidence(max(errors))


def _flat(x: Any) -> Iterator[Any]:
    if isinstance(x, tuple):
        for part in x:
            yield from _flat(part)
    else:
        yield x


def _tensors(case: Case, x: Any) -> Any:
    import torch

    if isinstance(x, Typed):
        return torch.as_tensor(np.array(case.subject.layout.reduced(*x)))
    return tuple(_tensors(case, v) for v in x) if isinstance(x, list) else x


CLAIM = Claim("the emitted code computes the derived expressions", "code", 9, inputs, holds, 30)
