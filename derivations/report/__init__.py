"""Reports of runs: one self-contained page with figures, equations, assumptions and settings."""

from derivations.report.figures import draw_figures
from derivations.report.page import report_html
from derivations.report.write import derivation_of, write_report

__all__ = ["derivation_of", "draw_figures", "report_html", "write_report"]
