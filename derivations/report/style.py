"""How reports look: colours that colour-blind readers tell apart, and the page's style sheet."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's palette.
DISCRETE, MIDPOINT, STABLE, CENTRAL = "#777777", "#E69F00", "#D55E00", "#0072B2"
# Further processes, where a run has them: colour and line.
OTHERS = {
    "inertial": ("#009E73", "--"),
    "eliminated": ("#CC79A7", "--"),
    "cross": ("#56B4E9", "--"),
    "ablated": ("#F0E442", "--"),
    "stationary": ("#7A5195", "--"),
    "rod": ("#8C564B", "-."),
}
INK, FAINT = "#1A1A1A", "#BBBBBB"
MODES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
PHASES = {"grad": "#56B4E9", "eig": "#009E73", "third": "#E69F00", "sdcp": "#CC79A7"}

MATPLOTLIB: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "svg.hashsalt": "centralflow",
    "figure.facecolor": "white",
}

PAGE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1a1a1a;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .5rem; padding-top: .9rem; border-top: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p { max-width: 46rem; margin: .4rem 0; }
.lead { color: #444; } .note { color: #555; font-size: .9rem; }
.warning { border-left: 4px solid #D55E00; padding: .3rem .8rem; background: #fdf3ec; }
figure { margin: 1rem 0 1.8rem; } figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .9rem; color: #444; max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: left; padding: .25rem 1.1rem .25rem 0; border-bottom: 1px solid #eee; vertical-align: top; }
th { border-bottom: 1px solid #999; font-weight: 600; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.key td { font-weight: 600; }
td.label { color: #555; white-space: nowrap; }
code, pre { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
math { font-size: 1.08em; }
nav a { margin-right: 1rem; white-space: nowrap; } a { color: #0058a0; }
details summary { cursor: pointer; color: #0058a0; }
@media print { main { max-width: none; } h2, figure { break-inside: avoid; } }
"""
