"""What the benchmarks decide and print, without their runs."""

import sys
from types import SimpleNamespace

import pytest

from numerics.processes import averaged
from tests.benchmarks import memory, momentum, speed

SECOND = dict(beta2=0.99)


@pytest.mark.parametrize(
    ("ratios", "hyper", "accepted"),
    [
        ([0.9] * 99 + [1.01], SECOND, True),
        ([0.9] * 50 + [1.01], SECOND, False),
        ([0.9] * momentum.LIMIT, SECOND, False),
        ([0.9] * 200 + [float("nan")], SECOND, False),
        ([0.998] * 30 + [1.001], {}, True),
        ([0.9] * 30 + [1.001], {}, False),
        ([0.9] * momentum.LIMIT, {}, False),
    ],
)
def test_a_learning_rate_is_chosen_only_where_the_edge_is_reached(ratios, hyper, accepted):
    assert momentum.slow_enough(ratios, hyper) is accepted


def test_a_ratio_that_does_not_exist_is_a_dash():
    shown = momentum.edge_ratios(SimpleNamespace(edge_ratio_mean=0.9876, edge_ratio_critical=None))
    assert shown == "midpoint λ/λ* 0.988, of critical modes –"


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes(platform, unit, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(memory.resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=7))
    assert memory.peak() == 7 * unit


def test_memory_is_measured_with_a_critical_mode_and_nothing_stays_replaced(monkeypatch, capsys):
    monkeypatch.setattr(memory, "CHANNELS", (1, 2, 3))
    original = averaged.spectral_cut
    memory.child("step", 500)
    assert averaged.spectral_cut is original
    assert len(capsys.readouterr().out.split()) == 3


def test_a_network_that_is_not_there_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["speed", "--networks", "RNN"])
    with pytest.raises(SystemExit):
        speed.main()
    assert "invalid choice: 'RNN'" in capsys.readouterr().err
