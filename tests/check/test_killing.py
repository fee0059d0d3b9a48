"""A failure of the harness is no fate of a mutant."""

import os
import signal
import sys
import time

import pytest

from tests.check.killing import Expired, HarnessFailed, limited


def fails():
    raise ValueError("in the harness")


def test_a_result_comes_back():
    assert limited(lambda: ("fate", 3), 20) == ("fate", 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [(fails, "in the harness"), (lambda: lambda: 0, "pickle"), (lambda: sys.exit(3), "status 3")],
    ids=["raises", "cannot be sent", "leaves"],
)
def test_a_failure_in_the_child_is_raised(make, words):
    with pytest.raises(HarnessFailed, match=words):
        limited(make, 20)


@pytest.mark.parametrize(
    ("make", "seconds"),
    [(lambda: time.sleep(60), 0.2), (lambda: os.kill(os.getpid(), signal.SIGKILL), 20)],
    ids=["hangs", "dies by a signal"],
)
def test_a_child_that_never_answers_has_expired(make, seconds):
    with pytest.raises(Expired):
        limited(make, seconds)
