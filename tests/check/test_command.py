"""`centralflow check`: table and exit codes."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from derivations.cli import main as cli_main

WRONG = """
from theory import hyper, per_parameter, sqrt, update_rule

@update_rule(lr=hyper("(0, oo)"), beta2=hyper("[0, 1)"), nu=per_parameter(nonnegative=True))
def wrong(s):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    s.w = s.w - s.lr * sqrt(s.nu) * s.g * s.w
"""


def test_table(capsys):
    assert cli_main(["check", "gd", "--effort", "0.1"]) == 0
    table = capsys.readouterr().out
    assert "(T2)" in table and "(T11)" in table and " NO " not in table


def test_options_and_a_schedule_are_checked_too(capsys):
    assert cli_main(["check", "heavy_ball", "--effort", "0.1"]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if "Claims derived for" in line]
    assert ["ema on" in t for t in titles] == [False, True, False] and "lr = " in titles[2]


def test_refused_rule_exits_with_2(capsys, tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    assert cli_main(["check", str(path)]) == 2
    assert "not in normal form" in capsys.readouterr().err


def test_false_claim_exits_with_1(capsys, monkeypatch):
    from derivations.check import engine
    from derivations.check.claims import threshold

    claim = replace(threshold.CLAIM, holds=lambda subject, sample: threshold.refute("λ*", 1.0, 2.0))
    monkeypatch.setattr(engine, "all_claims", lambda: (claim,))
    with pytest.raises(SystemExit) as leaving:
        cli_main(["check", "gd"])
    assert leaving.value.code == 1
    printed = capsys.readouterr().out
    assert "(T2)" in printed and "derived   1" in printed and "measured  2" in printed


def test_help_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import derivations.cli.check_command as c, argparse\n"
        "p = argparse.ArgumentParser(); c.add_arguments(p, []); p.format_help()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)
