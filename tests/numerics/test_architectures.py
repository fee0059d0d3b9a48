"""Every built-in network: derivatives to third order, causality, and equality with slow or well-known forms."""

import pytest
import torch
from torch import nn

from numerics.data import sorting
from numerics.errors import InputRefused
from numerics.models import CNN, LSTM, MLP, Mamba, ResNet, RMSNorm, Transformer, ViT, attention
from numerics.models.architecture import FORMS, Architecture, fitting, form_of
from numerics.models.mamba import selective_scan
from numerics.problem import Problem

F64 = torch.float64
SMALL = {
    MLP: dict(hidden=(6,)),
    CNN: dict(channels=(2, 3)),
    ResNet: dict(widths=(2, 4)),
    ViT: dict(width=6, patch=4, depth=1),
    LSTM: dict(width=5),
    Transformer: dict(width=6, depth=1),
    Mamba: dict(width=3, depth=1, states=2),
}
SEQUENCES = [kind for kind in SMALL if "tokens" in kind.takes]
CLASSES = 3


def data_of(form, n=7, dtype=F64):
    shapes = {"vectors": (n, 16), "series": (n, 4, 2), "images": (n, 1, 8, 8)}
    labels = torch.randint(CLASSES, (n, 3) if form == "tokens" else (n,))
    targets = nn.functional.one_hot(labels, CLASSES).movedim(-1, 1).to(dtype)
    return (torch.randint(5, (n, 6)) if form == "tokens" else torch.randn(shapes[form], dtype=dtype)), targets


CASES = [(kind, form) for kind in SMALL for form in kind.takes]


def identify(value):
    return value if isinstance(value, str) else value.__name__


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize(("kind", "form"), CASES, ids=identify)
def test_derivatives_against_differences_of_lower_ones(kind, form, loss):
    data = data_of(form)
    problem = Problem.from_module(kind.for_data(data, **SMALL[kind]), data, loss)
    u, v = (d / d.norm() for d in torch.randn(2, problem.n, dtype=F64))
    step = 1e-4

    def derivatives(w):
        local = problem.linearise(w)
        return local.loss, local.grad, local.hessian_product(v[:, None])[:, 0]

    plus, minus = (derivatives(problem.w0 + s * step * u) for s in (1, -1))
    dL, dg, dHv = ((p - m) / (2 * step) for p, m in zip(plus, minus, strict=True))
    local = problem.linearise(problem.w0)
    # The error of a central difference is step²/6 times two more derivatives.
    torch.testing.assert_close(local.grad @ u, dL, rtol=1e-5, atol=1e-7)
    for exact, difference in ((local.hessian_product(u[:, None])[:, 0], dg), (third(local, u, v), dHv)):
        assert (exact - difference).norm() < 1e-5 * exact.norm()


def third(local, u, v):
    return local.third(torch.stack([u, v], 1), "exact")[0, 1]


@pytest.mark.parametrize(("kind", "form"), CASES, ids=identify)
def test_default_networks_pass_the_self_check(kind, form):
    data = data_of(form)
    report = Problem.from_module(kind.for_data(data), data, "mse").check()
    assert report.ok, report.message
    assert sum(p.numel() for p in kind.for_data(data).parameters()) < 6000


@pytest.mark.parametrize(("kind", "form"), CASES, ids=identify)
def test_networks_follow_the_data_and_the_seed(kind, form, dtype):
    inputs, targets = data_of(form, dtype=dtype)
    before = torch.random.get_rng_state()
    with torch.device("meta"):
        one, same, other = (kind.for_data((inputs, targets), seed=s, **SMALL[kind]) for s in (0, 0, 1))
        outputs = one(inputs)
    assert torch.equal(before, torch.random.get_rng_state())
    assert outputs.shape == targets.shape and outputs.dtype == dtype and outputs.device == inputs.device
    assert torch.equal(outputs, same(inputs)) and not torch.equal(outputs, other(inputs))


@pytest.mark.parametrize("kind", SEQUENCES, ids=identify)
def test_derivatives_follow_their_inputs_under_a_foreign_default_device(kind):
    data = data_of("tokens")
    problem = Problem.from_module(kind.for_data(data, **SMALL[kind]), data, "cross_entropy")
    with torch.device("meta"):
        local = problem.linearise(problem.w0)
        assert torch.isfinite(local.third(torch.eye(problem.n, 2, dtype=F64, device="cpu"), "exact")).all()


@pytest.mark.parametrize("kind", SEQUENCES, ids=identify)
def test_outputs_depend_on_earlier_tokens_only(kind):
    torch.manual_seed(3)
    module = kind(9, 8, positions=12)
    before = torch.randint(8, (5, 12))
    y = module(before)
    assert y.shape == (5, 8, 12)
    for t in range(1, 12):
        after = before.clone()
        after[:, t:] = (after[:, t:] + 1) % 8
        changed = module(after) - y
        assert changed[:, :, :t].abs().max() < 1e-14
        assert (changed[:, :, t].abs().amax(1) > 1e-6).all()


@pytest.mark.parametrize("kind", SEQUENCES, ids=identify)
def test_a_label_is_read_only_after_it_is_predicted(kind):
    inputs, targets = sorting(20, length=5, vocabulary=6)
    labels = targets.argmax(1)
    module = kind.for_data((inputs, targets), **SMALL[kind])
    y = module(inputs)
    assert y.shape == targets.shape
    for t in range(5):
        replaced = inputs.clone()
        replaced[:, 5 + t + 1 :] = 0  # label t stands at position L + 1 + t
        assert (module(replaced) - y)[:, :, : t + 1].abs().max() < 1e-14
    assert torch.equal(inputs[:, 6:], labels[:, :-1])


def test_lstm_is_torchs():
    ours = LSTM(4, 3, width=6, depth=2, tokens=False, positions=5)
    theirs = nn.LSTM(6, 6, 2, batch_first=True).double()
    with torch.no_grad():
        for layer, own in enumerate(ours.layers):
            getattr(theirs, f"weight_ih_l{layer}").copy_(own.weight_ih)
            getattr(theirs, f"weight_hh_l{layer}").copy_(own.weight_hh)
            getattr(theirs, f"bias_ih_l{layer}").copy_(own.bias)
            getattr(theirs, f"bias_hh_l{layer}").zero_()
    x = torch.randn(7, 5, 6, dtype=F64)
    torch.testing.assert_close(ours.body(x), theirs(x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs(causal):
    q, k, v = torch.randn(3, 2, 3, 5, 4, dtype=F64)
    expected = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(attention(q, k, v, causal=causal), expected, rtol=1e-12, atol=1e-12)


def test_the_scan_is_its_definition_one_state_at_a_time():
    u, step = torch.randn(2, 6, 3, dtype=F64), torch.rand(2, 6, 3, dtype=F64)
    A, B, C = -torch.rand(3, 4, dtype=F64), torch.randn(2, 6, 4, dtype=F64), torch.randn(2, 6, 4, dtype=F64)
    expected = torch.zeros_like(u)
    for b in range(2):
        for c in range(3):
            for n in range(4):
                h = 0.0
                for t in range(6):
                    h = torch.exp(step[b, t, c] * A[c, n]) * h + step[b, t, c] * B[b, t, n] * u[b, t, c]
                    expected[b, t, c] += C[b, t, n] * h
    torch.testing.assert_close(selective_scan(u, step, A, B, C), expected, rtol=1e-12, atol=1e-12)


def test_the_step_of_mamba_depends_on_the_input():
    block = Mamba(9, 8).blocks[0]
    steps = []
    block.step.register_forward_hook(lambda module, args, output: steps.append(nn.functional.softplus(output)))
    block(torch.randn(3, 5, 12, dtype=F64))
    assert steps[0].std((0, 1)).min() > 0
    assert 0.005 < nn.functional.softplus(block.step.bias).min() < nn.functional.softplus(block.step.bias).max() < 1.01


def test_rms_norm_is_torchs():
    x, ours, theirs = torch.randn(4, 6, dtype=F64), RMSNorm(6, dtype=F64), nn.RMSNorm(6, eps=1e-5, dtype=F64)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.copy_(torch.randn(6)))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("blocks", "widths", "layers"), [(1, (4, 6, 8), 8), (2, (4, 8), 10)])
def test_layers_of_the_resnet(blocks, widths, layers):
    module = ResNet(widths=widths, blocks=blocks)
    weights = [m for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
    assert len(weights) == layers and module(torch.randn(3, 1, 8, 8, dtype=F64)).shape == (3, 10)


def test_a_residual_block_without_residual_is_its_shortcut():
    block = ResNet(widths=(2, 2)).layers[2]
    with torch.no_grad():
        block.residual[-1].weight.zero_()
    x = torch.randn(3, 2, 8, 8, dtype=F64)
    torch.testing.assert_close(block(x), nn.functional.avg_pool2d(x, 2))


def test_every_form_is_fitted_by_some_network():
    for form in FORMS:
        assert fitting(form) and form_of(data_of(form)[0]) == form
    assert set(fitting("tokens")) == {"lstm", "mamba", "transformer"}
    assert not Architecture.takes


BAD = [
    (lambda: ViT.for_data(data_of("tokens")), r"vit takes images .* integer sequences .* fit lstm, mamba, transformer$"),
    (lambda: LSTM.for_data(data_of("vectors")), "fit mlp"),
    (lambda: MLP.for_data((torch.ones(3, 2), torch.ones(3))), "one-hot"),
    (lambda: MLP.for_data((torch.ones(3, 2), torch.ones(4, 1))), "each of 3 examples"),
    (lambda: MLP.for_data((torch.ones(3), torch.ones(3, 1))), "reshape"),
    (lambda: CNN.for_data((torch.ones(3, 1, 8, 6), torch.ones(3, 1))), "size, size"),
    (lambda: LSTM.for_data((torch.ones(3, 4).long(), torch.ones(3, 2, 5))), "at most T = 4"),
    (lambda: ResNet(widths=(4, 5)), "groups must divide"),
    (lambda: ResNet(size=6, widths=(2, 2, 2)), "divisible by 2"),
    (lambda: ViT(patch=3), "patch must divide"),
    (lambda: ViT(heads=3), "heads must divide"),
    (lambda: Transformer(depth=0), "depth"),
    (lambda: LSTM(depth=0), "depth"),
    (lambda: LSTM(width=0), "width"),
    (lambda: Mamba(states=0), "states"),
    (lambda: ViT(activation="relu"), "gelu"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), BAD)
def test_refusals(make, words):
    with pytest.raises(InputRefused, match=words) as refusal:
        make()
    assert "\n" not in str(refusal.value) and "; " in str(refusal.value)
