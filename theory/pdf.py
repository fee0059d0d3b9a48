"""A LaTeX document as PDF, through pdflatex where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

PROGRAM = "pdflatex"
# Neither shell commands nor questions; no date inside, so that one document always gives the same file.
OPTIONS = ("-halt-on-error", "-no-shell-escape", "-interaction=nonstopmode")
TIMELESS = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
SECONDS = 120.0


class PdfFailed(RuntimeError):
    """Raised with one sentence when no PDF could be made."""


def write_pdf(latex: str, path: str | Path) -> None:
    """Compile a document in a temporary folder and write the result.

    Args:
        latex: the source, which needs no other file.
        path: of the PDF.

    Raises:
        PdfFailed: If pdflatex is not installed, does not accept the document or takes too long, or the file cannot be
            written.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise PdfFailed(
            f"a PDF needs {PROGRAM}, which is not installed: install TeX Live (on Debian and Ubuntu: apt-get install "
            "texlive-latex-base), or write LaTeX, HTML or Markdown instead."
        )
    with tempfile.TemporaryDirectory() as folder:
        made = _compile(program, latex, Path(folder))
        try:
            shutil.copyfile(made, path)
        except OSError as error:
            raise PdfFailed(f"the PDF cannot be written to {path} ({error.strerror}): choose another file.") from None


def _compile(program: str, latex: str, folder: Path) -> Path:
    (folder / "document.tex").write_text(latex, encoding="utf-8")
    command = [program, *OPTIONS, "document.tex"]
    try:
        run = subprocess.run(
            command, cwd=folder, capture_output=True, check=False, timeout=SECONDS, env=os.environ | TIMELESS
        )
    except subprocess.TimeoutExpired:
        raise PdfFailed(f"{PROGRAM} did not finish within {SECONDS:g} seconds.") from None
    if run.returncode:
        raise PdfFailed(f"{PROGRAM} does not accept the document: {first_error(run.stdout.decode(errors='replace'))}")
    return folder / "document.pdf"


def first_error(log: str) -> str:
    """Return the first error of a LaTeX log with the line it is about."""
    found = re.search(r"^! (.*)$", log, re.MULTILINE)
    if found is None:
        return log.strip().splitlines()[-1] if log.strip() else "it says nothing."
    where = re.search(r"^l\.(\d+) ?(.*)$", log[found.start() :], re.MULTILINE)
    return found[1] + (f" (line {where[1]}: {where[2].strip()})" if where else "")
