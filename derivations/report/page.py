"""The report of a run as one self-contained HTML page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from derivations.report import style
from derivations.report.equations import derivation_html
from derivations.report.figures import Drawing, draw_figures
from numerics.records import Run
from theory import Derivation

NO_DERIVATION = (
    '<p class="note">The rule of this run was not found. <code>centralflow report RUN --rule FILE.py</code> '
    "names the file that declares it.</p>"
)
KEY_FIGURES = ("predicted loss, relative error", "deviation explained, last step of E")


def report_html(run: Run, derivation: Derivation | None = None, drawings: Sequence[Drawing] | None = None) -> str:
    """Return the report of a run, finished or not.

    Args:
        run: its records.
        derivation: of the rule that was run, for the equations; None says where to get them.
        drawings: the figures, where they have been drawn already.
    """
    title = f"{rule_name(run)} and its central flow"
    figures = draw_figures(run) if drawings is None else drawings
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(_lead(run))}</p>',
        *_warnings(run),
        _section("figures-of-merit", "Headline figures", headline_html(run)),
        *(_section(d.stem, d.title, figure_html(d)) for d in figures),
        _section("assumptions", "Assumptions", _assumptions(run, derivation)),
    ]
    equations = NO_DERIVATION if derivation is None else derivation_html(derivation)
    parts.append(_section("derivation", "Derivation", equations))
    parts.append(_section("settings", "Settings and versions", _settings(run)))
    return page_html(title, parts)


def page_html(title: str, parts: Iterable[str]) -> str:
    """Return a complete page."""
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{style.PAGE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def table_html(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), key: Sequence[str] = ()
) -> str:
    """Return a table.

    Args:
        header: names of the columns.
        rows: cells as text.
        numbers: columns set flush right.
        key: first cells of the rows to be set in bold.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(_row(row, numbers, bold=row[0] in key) for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(row: Sequence[str], numbers: Sequence[int], *, bold: bool) -> str:
    cells = (
        f'<td class="number">{escape(c)}</td>' if i in numbers else f"<td>{escape(c)}</td>" for i, c in enumerate(row)
    )
    opening = '<tr class="key">' if bold else "<tr>"
    return f"{opening}{''.join(cells)}</tr>"


def figure_html(drawing: Drawing) -> str:
    """Return a figure with its picture inside the page."""
    data = base64.b64encode(drawing.svg.encode()).decode()
    picture = f'<img alt="{escape(drawing.title)}" src="data:image/svg+xml;base64,{data}">'
    return f"<figure>{picture}<figcaption>{escape(drawing.caption)}</figcaption></figure>"


def headline_html(run: Run) -> str:
    """Return the table of the headline figures."""
    return table_html(
        ("figure", "central flow", "stable flow", ""), run.summary().as_rows(), numbers=(1, 2), key=KEY_FIGURES
    )


def rule_name(run: Run) -> str:
    """Return the name of the rule that was run, as the manifest has it."""
    return str(_config(run).get("rule", "unnamed rule"))


def _config(run: Run) -> Mapping[str, Any]:
    config = run.manifest.get("config")
    return config if isinstance(config, Mapping) else {}


def _lead(run: Run) -> str:
    hyper = _config(run).get("hyper")
    settings = ", ".join(f"{name} = {value}" for name, value in hyper.items()) if isinstance(hyper, Mapping) else ""
    return "; ".join(part for part in (run.progress, settings) if part) + "."


def _warnings(run: Run) -> Iterable[str]:
    if not run.complete:
        yield (
            f'<p class="warning">{_ending(run)}: {escape(run.progress)}. '
            "Everything below is about the steps recorded so far.</p>"
        )
    stopped = run.manifest.get("stopped")
    if isinstance(stopped, Mapping):
        yield from (
            f'<p class="warning">The {escape(str(name))} process stopped at {escape(str(reason))}</p>'
            for name, reason in stopped.items()
        )
    yield from (f'<p class="warning">{escape(str(warning))}</p>' for warning in run.warnings)


def _ending(run: Run) -> str:
    reason = run.manifest.get("reason")
    if run.interrupted:
        return "This run was interrupted before its end"
    return f"This run failed ({escape(str(reason))})" if reason else "This run is not complete"


def _section(anchor: str, title: str, content: str) -> str:
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>\n{content}\n</section>'


def _assumptions(run: Run, derivation: Derivation | None) -> str:
    measured = run.manifest.get("assumptions")
    if isinstance(measured, Sequence) and measured:
        rows = [_assumption(entry) for entry in measured if isinstance(entry, Mapping)]
        table = table_html(("condition", "held", "measured", "meaning"), rows, numbers=(2,))
    else:
        table = '<p class="note">This run measured no conditions.</p>'
    if derivation is None:
        return table
    used = "".join(f"<li>{escape(assumption)}</li>" for assumption in derivation.assumptions)
    return f"{table}<h3>Used in the derivation</h3><ul>{used}</ul>"


def _assumption(entry: Mapping[str, Any]) -> tuple[str, str, str, str]:
    held = {True: "yes", False: "no", None: "not measured"}.get(entry.get("held"), str(entry.get("held")))
    value = entry.get("value")
    shown = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return str(entry.get("name", "")), held, shown, str(entry.get("meaning", ""))


def _settings(run: Run) -> str:
    rows = [
        row
        for name in run.manifest
        if name not in {"assumptions", "warnings", "stopped"}
        for row in _flat(str(name), run.manifest[name])
    ]
    return table_html(("setting", "value"), rows)


def _flat(name: str, value: object) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}", part)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
