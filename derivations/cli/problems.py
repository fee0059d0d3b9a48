"""The built-in training problems, by the name that `--model` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numerics import Problem

MODELS = {"mlp": "digits, 300 examples, MLP 64-24-24-10, mean squared error, float64"}
EXAMPLES, WIDTHS = 300, (64, 24, 24, 10)


def build(model: str = "mlp", seed: int = 0) -> Problem:
    """Return a built-in problem, and let torch work on it with one thread: more only wait for one another at its size.

    Args:
        model: a key of `MODELS`.
        seed: of the initialisation.
    """
    assert model in MODELS
    import torch

    from numerics import Problem
    from numerics.data import digits
    from numerics.models import MLP

    torch.set_num_threads(1)
    return Problem.from_module(MLP(WIDTHS, seed=seed), digits(EXAMPLES), "mse", name=f"{model} on digits")
