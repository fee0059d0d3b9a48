import pytest
import torch
from torch import nn

from numerics.data import digits
from numerics.errors import InputRefused
from numerics.models import CNN, MLP, LayerNorm
from numerics.models.layers import ACTIVATIONS


def test_mlp_is_torchs_default_initialisation_under_the_seed():
    before = torch.random.get_rng_state()
    model = MLP((64, 24, 24, 10), seed=5)
    assert torch.equal(before, torch.random.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = [nn.Linear(a, b, dtype=torch.float64) for a, b in ((64, 24), (24, 24), (24, 10))]
    ours = [layer for layer in model.layers if isinstance(layer, nn.Linear)]
    assert len(ours) == 3
    for a, b in zip(ours, expected, strict=True):
        assert torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias)
    assert sum(p.numel() for p in model.parameters()) == 2410


def test_seeds_differ():
    assert not torch.equal(next(MLP(seed=0).parameters()), next(MLP(seed=1).parameters()))
    assert not torch.equal(next(CNN(seed=0).parameters()), next(CNN(seed=1).parameters()))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations(name, dtype):
    assert MLP((3, 4, 2), name, dtype=dtype)(torch.ones(5, 3, dtype=dtype)).shape == (5, 2)


def test_cnn_takes_flat_and_square_inputs(dtype):
    model = CNN((1, 4, 6), 8, 3, dtype=dtype)
    x = torch.randn(5, 64, dtype=dtype)
    assert torch.equal(model(x), model(x.view(5, 1, 8, 8))) and model(x).shape == (5, 3)


@pytest.mark.parametrize("shape", [8, (3, 8)])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_equals_torchs(shape, affine):
    x = 3 + 2 * torch.randn(5, 3, 8, dtype=torch.float64)
    ours = LayerNorm(shape, elementwise_affine=affine, dtype=torch.float64)
    theirs = nn.LayerNorm(shape, elementwise_affine=affine, dtype=torch.float64)
    with torch.no_grad():
        for p in ours.parameters():
            p.copy_(torch.randn_like(p))
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_layer_norm_without_bias():
    assert [n for n, _ in LayerNorm(4, bias=False).named_parameters()] == ["weight"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MLP((3,)), "widths"),
        (lambda: MLP((3, 0, 2)), "widths"),
        (lambda: MLP((3, 2), "relu"), "gelu"),
        (lambda: CNN((1,), 8), "channels"),
        (lambda: CNN((1, 2, 3), 6), "divisible"),
        (lambda: digits(0), "between 1 and 1797"),
        (lambda: digits(1798), "between 1 and 1797"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(InputRefused, match=words):
        make()


def test_digits(dtype):
    X, Y = digits(300, dtype=dtype)
    assert X.shape == (300, 64) and Y.shape == (300, 10) and X.dtype == Y.dtype == dtype
    assert X.min() == 0 and X.max() == 1
    assert torch.equal(Y.sum(1), torch.ones(300, dtype=dtype)) and Y[:10].argmax(1).tolist() == list(range(10))
