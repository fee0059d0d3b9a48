"""`safe` keeps the function and the parameters, and makes the derivatives right."""

import pytest
import torch
from torch import nn

from numerics.models import LayerNorm, safe
from numerics.models.safe import MultiheadAttention
from numerics.problem import Problem

F64 = torch.float64


class Attending(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, dtype=F64, **options)
        self.norm = nn.LayerNorm(8, dtype=F64)
        self.readout = nn.Linear(8, 3, dtype=F64)

    def forward(self, x, **masks):
        y, self.weights = self.attention(x, x, x, **masks)
        return self.readout(self.norm(y).mean(1))


def randomised(module):
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return module


CAUSAL = torch.ones(5, 5).triu(1).bool()


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 8, "vdim": 8}])
@pytest.mark.parametrize(
    "masks", [{}, {"need_weights": False}, {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False}]
)  # fmt: skip
@pytest.mark.parametrize("graph", [True, False])
def test_the_function_and_the_parameters_stay(options, masks, graph):
    module = randomised(Attending(**options))
    x = torch.randn(4, 5, 8, dtype=F64)
    named = dict(module.named_parameters())
    with torch.set_grad_enabled(graph):
        before, weights = module(x, **masks), module.weights
        assert safe(module) is module
        torch.testing.assert_close(module(x, **masks), before, rtol=1e-12, atol=1e-12)
    assert (module.weights is None) == (weights is None) == (masks.get("need_weights") is False)
    assert isinstance(module.attention, MultiheadAttention) and isinstance(module.norm, LayerNorm)
    after = dict(module.named_parameters())
    assert list(after) == list(named) and all(after[name] is named[name] for name in named)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [8, (5, 8)])
def test_layer_norm_itself(affine, shape):
    module = randomised(nn.LayerNorm(shape, elementwise_affine=affine, dtype=F64))
    x = 2 + 3 * torch.randn(4, 5, 8, dtype=F64)
    before = module(x)
    torch.testing.assert_close(safe(module)(x), before, rtol=1e-12, atol=1e-12)
    assert type(module) is LayerNorm


def encoder():
    return nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True, dtype=F64),
        nn.Flatten(),
        nn.Linear(40, 2).double(),
    )


def test_derivatives_become_right():
    module, data = encoder(), (torch.randn(6, 5, 8, dtype=F64), torch.randn(6, 2, dtype=F64))
    bad = Problem.from_module(module, data, "mse").check()
    assert not bad.ok and "numerics.models.safe" in bad.message
    before = module(data[0])
    report = Problem.from_module(safe(module), data, "mse").check()
    assert report.ok, report.message
    torch.testing.assert_close(module(data[0]), before, rtol=1e-12, atol=1e-12)


def test_attention_outside_a_problem_has_second_derivatives_only_when_safe():
    module, x = nn.MultiheadAttention(4, 2, batch_first=True, dtype=F64), torch.randn(2, 3, 4, dtype=F64)

    def loss(p):
        values = {"in_proj_weight": p.view(12, 4)}
        return torch.func.functional_call(module, values, (x, x, x), {"need_weights": False})[0].square().sum()

    w0 = module.in_proj_weight.detach().reshape(-1)
    assert not Problem(loss, w0).check().ok
    safe(module)
    assert Problem(loss, w0).check().ok


def test_scaled_dot_product_attention_in_a_users_module_keeps_its_function_under_from_module():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = nn.Linear(4, 12, dtype=F64)

        def forward(self, x):
            q, k, v = self.read(x).chunk(3, -1)
            return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).mean(1)

    module, data = Own(), (torch.randn(5, 6, 4, dtype=F64), torch.randn(5, 4, dtype=F64))
    problem = Problem.from_module(module, data, "mse")
    torch.testing.assert_close(problem.outputs(problem.w0), module(data[0]), rtol=1e-12, atol=1e-12)
    assert problem.check().ok


def test_a_forward_pass_of_ones_own_is_left_alone():
    class Scaled(nn.LayerNorm):
        def forward(self, x):
            return 2 * super().forward(x)

    module = nn.Sequential(Scaled(4), nn.Linear(4, 4))
    x = torch.randn(3, 4)
    before = module(x)
    assert type(safe(module)[0]) is Scaled and torch.equal(module(x), before)


@pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
def test_attention_with_keys_of_its_own_is_left_alone(option):
    module = Attending(**{option: True})
    assert type(safe(module).attention) is nn.MultiheadAttention and type(module.norm) is LayerNorm
