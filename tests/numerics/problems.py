"""Small smooth problems for tests."""

import numpy as np
import torch

from numerics import Problem


def small_problem(seed=0, n=24, width=6, device="cpu"):
    """A tanh network with one hidden layer on random data, in float64."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64).to(device)
    y = torch.randn(n, 1, generator=generator, dtype=torch.float64).to(device)
    shapes = [(width, 4), (width,), (1, width)]
    sizes = [int(np.prod(s)) for s in shapes]

    def loss(w):
        W, b, v = (p.reshape(s) for p, s in zip(w.split(sizes), shapes, strict=True))
        return 0.5 * ((torch.tanh(x @ W.T + b) @ v.T - y) ** 2).sum(1).mean()

    w0 = 0.7 * torch.randn(sum(sizes), generator=generator, dtype=torch.float64).to(device)
    return Problem(loss, w0, blocks=sizes)
