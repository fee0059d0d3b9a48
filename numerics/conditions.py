"""Which assumptions of the theory held along a run, measured (THEORY section 9): conditions, never silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numerics.lowered import LoweredRule
    from numerics.records import Run


def conditions(run: Run, rule: LoweredRule, stopped: dict[str, str]) -> list[dict[str, Any]]:
    """Measure the assumptions.

    Args:
        run: the recorded run.
        rule: that was run.
        stopped: process → reason, for processes that did not reach the end.

    Returns:
        One entry per condition: name, held (None: could not be measured), value, meaning.
    """
    found = [
        _entry(f"{name} ran to the end", False, reason, "a process that stops keeps its rows up to there")
        for name, reason in stopped.items()
    ]
    if "central" not in run:
        return found
    central = run["central"]
    if "eigenvalues" not in central:
        return found
    ratio = central.eigenvalues[:, 0] / central.threshold
    start = float(ratio[0])
    found.append(
        _entry(
            "start inside the stable set",
            start <= 1.0,
            f"top eigenvalue {start:.3f} λ*",
            "a start outside makes the covariance depend on the step length; the excess is relaxed over several steps",
        )
    )
    active = central.critical > 0
    if active.any():
        worst = float(np.nanmax(np.abs(ratio[active] - 1)))
        found.append(
            _entry(
                "critical modes stay at the threshold",
                worst < 0.02,
                f"largest |λ/λ* − 1| {worst:.2e}",
                "the margin is kept by the covariance alone",
            )
        )
        share = central.predicted_loss[active] / central.loss[active] - 1
        found.append(
            _entry(
                "oscillation small",
                float(np.nanmedian(share)) < 1.0,
                f"median share of the loss {float(np.nanmedian(share)):.3f}",
                "fourth-order terms are neglected: their size follows the square of this share",
            )
        )
    else:
        found.append(
            _entry(
                "edge of stability reached",
                False,
                f"top eigenvalue at most {float(np.nanmax(ratio)):.3f} λ*",
                "without a critical mode the central flow is the stable flow",
            )
        )
    found += _ripples(central) + _modulation(central)
    bad = int(np.nansum(central.sdcp_status > 0)) if "sdcp_status" in central else 0
    found.append(
        _entry(
            "complementarity problems certified",
            bad == 0,
            f"{bad} steps above the residual bound",
            "every covariance carries a certificate",
        )
    )
    missed = int(np.nansum(central.complete < 1))
    found.append(
        _entry(
            "all fast modes tracked",
            missed == 0,
            f"{missed} steps with untracked modes",
            "modes that could reach λ* within a step are followed",
        )
    )
    return found + _onset(run)


def _ripples(central: Any) -> list[dict[str, Any]]:
    texts = {
        "ripple_threshold": (
            "ripple of P leaves the threshold",
            "the accumulators' first-order oscillation shifts λ* by this share",
        ),
        "ripple_drift": (
            "ripple of P leaves the mean step",
            "the accumulators' first-order oscillation shifts the mean step by this share",
        ),
    }
    shares = {k: float(np.nanmedian(central[k])) for k in texts if k in central and np.isfinite(central[k]).any()}
    return [_entry(texts[k][0], v < 0.1, f"median share {v:.2e}", texts[k][1]) for k, v in shares.items()]


def _modulation(central: Any) -> list[dict[str, Any]]:
    if "modulation" not in central or not np.isfinite(central.modulation).any():
        return []
    rho = float(np.nanmedian(central.modulation))
    return [
        _entry(
            "eigenvalues rise slowly against the filter",
            rho < 1.0,
            f"median modulation number {rho:.2f}",
            "modulations of the oscillation grow by e^(π·number) in each turn; above 1 expect bursts instead of an average",
        )
    ]


def _onset(run: Run) -> list[dict[str, Any]]:
    delay = run.summary().as_dict().get("onset_delay")
    if delay is None:
        return []
    return [
        _entry(
            "no onset delay",
            delay <= 10,
            f"{delay} steps",
            "an oscillation grows from round-off or a kick; until it is there no averaged theory applies",
        )
    ]


def _entry(name: str, held: bool | None, value: str, meaning: str) -> dict[str, Any]:
    return {"name": name, "held": held, "value": value, "meaning": meaning}
