"""The generated optimizer is torch's of the same name, on the same gradients, step by step."""

import pytest
import torch

from numerics.lowered import lower
from theory import derive

CASES = {
    "gd": (dict(lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1), None),
    "rmsprop": (
        dict(lr=1e-2, beta2=0.97, eps=1e-8),
        lambda p: torch.optim.RMSprop(p, lr=1e-2, alpha=0.97, eps=1e-8),
        "square_avg",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_torch_optim(name):
    hyper, make, key = CASES[name]
    generator = torch.Generator().manual_seed(0)
    n, real = 60, dict(generator=generator, dtype=torch.float64)
    w = torch.randn(n, **real)
    rule = lower(derive(name).emitted, hyper, (n,), w)
    parameter = torch.nn.Parameter(w.clone())
    optimizer, states = make([parameter]), rule.initial()
    for _ in range(200):
        scale = 10 ** (12 * torch.rand(n, **real) - 6)
        g = torch.randn(n, **real) * scale * (torch.rand(n, generator=generator) > 0.2)
        parameter.grad = g.clone()
        optimizer.step()
        moved, states = rule.f.step(w, g, states)
        torch.testing.assert_close(moved, parameter.data, rtol=1e-12, atol=0)
        if key:
            torch.testing.assert_close(states[0], optimizer.state[parameter][key], rtol=1e-12, atol=0)
        w = parameter.data.clone()
