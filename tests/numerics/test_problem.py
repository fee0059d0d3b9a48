import pytest
import torch
from torch import nn

from numerics.data import digits
from numerics.derivatives import LocalDerivatives
from numerics.errors import InputRefused
from numerics.models import CNN, MLP, LayerNorm
from numerics.models.losses import half_squared_error
from numerics.problem import NonFiniteLoss, Problem

F64 = torch.float64


def small_data(n=12, inputs=3, outputs=2, dtype=F64):
    return torch.randn(n, inputs, dtype=dtype), torch.randn(n, outputs, dtype=dtype)


def small_problem(criterion="mse", dtype=F64):
    return Problem.from_module(MLP((3, 4, 2), "tanh", dtype=dtype), small_data(dtype=dtype), criterion)


def dense_hessian(loss, w):
    return torch.func.hessian(loss)(w)


def dense_third(loss, w):
    return torch.func.jacfwd(torch.func.hessian(loss))(w)


def layered(*layers):
    return nn.Sequential(*layers).double()


# --- derivatives


def test_value_and_gradient():
    problem = small_problem()
    w = problem.w0
    loss, grad = problem.gradient(w)
    assert not loss.requires_grad and not grad.requires_grad
    assert torch.equal(problem.value(w), loss)
    torch.testing.assert_close(grad, torch.func.grad(problem.loss)(w))


def test_the_mse_is_half_squared_error_summed_over_outputs_averaged_over_examples():
    module, (X, Y) = MLP((3, 4, 2)), small_data()
    problem = Problem.from_module(module, (X, Y), "mse")
    expected = sum(0.5 * ((f - y) ** 2).sum() for f, y in zip(module(X), Y, strict=True)) / len(X)
    torch.testing.assert_close(problem.value(problem.w0), expected.detach())


@pytest.mark.parametrize("criterion", ["mse", "cross_entropy"])
@pytest.mark.parametrize("method", ["exact", "differences", "auto"])
def test_hessian_and_third_derivatives_against_dense_autograd(criterion, method):
    problem = small_problem(criterion)
    w = problem.w0
    local = problem.linearise(w)
    V = torch.randn(problem.n, 3, dtype=F64) * torch.tensor([1e-3, 1.0, 1e3])
    torch.testing.assert_close(local.hessian_product(V), dense_hessian(problem.loss, w) @ V, rtol=1e-10, atol=1e-12)
    T = local.third(V, method)
    assert T.shape == (3, 3, problem.n) and torch.equal(T, T.transpose(0, 1))
    expected = torch.einsum("abc,ai,bj->ijc", dense_third(problem.loss, w), V, V)
    # Differences are good to 1e-6 (STEP); each pair has its own scale here.
    scale = expected.norm(dim=2) + 1e-3 * V.norm(dim=0)[:, None] * V.norm(dim=0)
    assert ((T - expected).norm(dim=2) / scale).max() < (1e-10 if method == "exact" else 1e-5)


def test_derivatives_against_differences_of_lower_ones():
    problem = small_problem()
    u, v = torch.randn(2, problem.n, dtype=F64)
    local, eps = problem.linearise(problem.w0), 1e-5
    plus, minus = (problem.linearise(problem.w0 + s * eps * u) for s in (1, -1))
    torch.testing.assert_close(
        local.hessian_product(u[:, None])[:, 0], (plus.grad - minus.grad) / (2 * eps), rtol=1e-7, atol=1e-9
    )
    product = [d.hessian_product(v[:, None])[:, 0] for d in (plus, minus)]
    expected = (product[0] - product[1]) / (2 * eps)
    torch.testing.assert_close(local.third(torch.stack([u, v], 1))[0, 1], expected, rtol=1e-5, atol=1e-6)


def test_zero_and_no_columns():
    local = small_problem().linearise(small_problem().w0)
    n = local.w.numel()
    assert local.third(torch.zeros(n, 0, dtype=F64)).shape == (0, 0, n)
    assert local.hessian_product(torch.zeros(n, 0, dtype=F64)).shape == (n, 0)
    T = local.third(torch.stack([torch.zeros(n, dtype=F64), torch.ones(n, dtype=F64)], 1))
    assert torch.isfinite(T).all() and T[0].norm() == 0 and T[1, 1].norm() > 0


@pytest.mark.parametrize("power", [1, 2])
def test_linear_and_quadratic_losses_have_zero_higher_derivatives(power):
    local = Problem(lambda w: (w**power).sum(), torch.ones(5, dtype=F64)).linearise(torch.ones(5, dtype=F64))
    U = torch.eye(5, dtype=F64)[:, :2]
    torch.testing.assert_close(local.hessian_product(U), (2.0 if power == 2 else 0.0) * U)
    assert local.third(U).abs().max() == 0


def test_differences_give_way_to_exact_where_they_are_inaccurate():
    # sin(1e3 w) changes within the step of 1e-4, so differences are wrong by more than the tolerance.
    local = Problem(lambda w: torch.sin(1e3 * w).sum(), torch.full((3,), 0.3e-3, dtype=F64))
    U = torch.eye(3, dtype=F64)[:, :2]
    d = local.linearise(local.w0)
    torch.testing.assert_close(d.third(U, "differences"), d.third(U, "exact"), rtol=1e-14, atol=0)


def test_differences_are_kept_where_they_are_accurate(monkeypatch):
    problem = small_problem()
    local, U = problem.linearise(problem.w0), torch.randn(problem.n, 3, dtype=F64)
    exact = local.third(U, "exact")
    monkeypatch.setattr(LocalDerivatives, "_third_exact", lambda *a: pytest.fail("fell back"))
    assert (local.third(U, "differences") - exact).norm() < 1e-6 * exact.norm()


def test_a_float32_problem_is_never_differenced(monkeypatch):
    problem = small_problem(dtype=torch.float32)
    local = problem.linearise(problem.w0)
    monkeypatch.setattr(LocalDerivatives, "_third_by_differences", lambda *a: pytest.fail("differences in float32"))
    assert local.third(torch.ones(problem.n, 1), "differences").dtype == torch.float32


def test_gradients_do_not_need_grad_mode_and_leave_the_module_alone():
    module = MLP((3, 4, 2))
    before = [p.clone() for p in module.parameters()]
    problem = Problem.from_module(module, small_data(), "mse")
    with torch.no_grad():
        local = problem.linearise(problem.w0 + 1)
        assert local.hessian_product(torch.ones(problem.n, 1, dtype=F64)).norm() > 0
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(module.parameters(), before, strict=True))


def test_everything_follows_the_inputs_under_a_foreign_default_device():
    X, Y = digits(20)
    for module in (MLP((64, 6, 10)), CNN((1, 2, 3))):
        with torch.device("meta"):
            problem = Problem.from_module(module, (X, Y), "mse")
            local = problem.linearise(problem.w0)
            U = torch.randn(problem.n, 2, dtype=F64, device="cpu")
            for result in (local.loss, local.grad, local.hessian_product(U), local.third(U), local.third(U, "exact")):
                assert result.device.type == "cpu" and torch.isfinite(result).all()
            assert problem.check().ok


def test_from_module_keeps_order_blocks_and_names():
    module = MLP((3, 4, 2))
    problem = Problem.from_module(module, small_data(), "mse")
    assert problem.blocks == (12, 4, 8, 2) and problem.n == 26
    named = problem.unflatten(problem.w0)
    assert list(named) == [name for name, _ in module.named_parameters()]
    assert all(torch.equal(named[name], p) for name, p in module.named_parameters())
    w = problem.w0.clone().requires_grad_(True)
    torch.testing.assert_close(problem.outputs(w), module(problem._network.inputs))
    assert problem.outputs(w).requires_grad


def test_tied_parameters_are_one_block():
    first = nn.Linear(3, 3, bias=False)
    module = layered(first, nn.Tanh(), first)
    problem = Problem.from_module(module, small_data(outputs=3), "mse")
    assert problem.n == 9
    torch.testing.assert_close(problem.gradient(problem.w0)[1], torch.func.grad(problem.loss)(problem.w0))


def test_attention_gets_a_kernel_with_second_derivatives():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Linear(3, 12, dtype=F64)

        def forward(self, x):
            q, k, v = self.q(x.view(-1, 4, 3)).split(4, -1)
            return nn.functional.scaled_dot_product_attention(q, k, v).sum(1)

    assert (
        Problem
        .from_module(Attention(), (torch.randn(5, 12, dtype=F64), torch.randn(5, 4, dtype=F64)), "mse")
        .check()
        .ok
    )


# --- refusals


def quadratic(w):
    return 0.5 * (w * w).sum()


W = torch.ones(4, dtype=F64)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Problem(quadratic, [1.0, 2.0]), "torch tensor"),
        (lambda: Problem(quadratic, torch.ones(2, 2)), "flat vector"),
        (lambda: Problem(quadratic, torch.ones(0)), "flat vector"),
        (lambda: Problem(quadratic, torch.ones(3, dtype=torch.int64)), "float64 or float32"),
        (lambda: Problem(quadratic, torch.tensor([1.0, float("nan")])), "1 nan or inf entries of 2"),
        (lambda: Problem(quadratic, W, blocks=(3, 3)), "sum to n = 4"),
        (lambda: Problem(lambda w: w * w, W), "scalar"),
        (lambda: Problem(lambda w: (w * w).sum().item(), W), "tensor, got float"),
        (lambda: Problem(lambda w: (w - 2).log().sum(), W), "finite at w0"),
        (lambda: Problem(lambda w: 1 / (w - 1).sum(), W), "finite at w0"),
        (lambda: Problem(lambda w: (w - 1).square().sum().sqrt(), W), "finite gradient"),
        (lambda: Problem(lambda w: torch.ones((), dtype=F64), W), "depend on w"),
        (lambda: Problem(lambda w: quadratic(w.detach()), W), "depend on w"),
        (lambda: Problem(lambda w: quadratic(w.float()), W), "dtype of w0"),
        (lambda: Problem(lambda w: quadratic(w) * torch.rand(()).double(), W), "deterministic"),
        (lambda: Problem(quadratic, W).outputs(W), "from_module"),
        (lambda: Problem(quadratic, W).linearise(W).third(W[:, None], "fast"), "method"),
    ],
)
def test_refused_losses(make, words):
    with pytest.raises(InputRefused, match=words) as refusal:
        make()
    one_sentence(str(refusal.value))


def one_sentence(message):
    assert "\n" not in message and "; " in message and not message.rstrip().endswith(".")


def frozen():
    module = MLP((3, 4, 2))
    module.layers[0].weight.requires_grad_(False)
    return module


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2, dtype=F64)
        self.register_buffer("calls", torch.zeros((), dtype=F64))

    def forward(self, x):
        self.calls.add_(1)
        return self.linear(x)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.GELU(), "parameters"),
        (frozen(), r"layers\.0\.weight"),
        (MLP((3, 4, 2), dtype=torch.float32), "dtype"),
        (MLP((3, 4, 2)).to("meta"), "one device"),
        (nn.Sequential(nn.Linear(3, 4).double(), nn.Linear(4, 2)), "0.weight is torch.float64"),
        (layered(nn.Linear(3, 4), nn.Dropout(0.1), nn.Linear(4, 2)), r"1 \(Dropout\).*eval"),
        (layered(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), r"1 \(BatchNorm1d\).*GroupNorm"),
        (Counting(), "buffers.*calls"),
        (lambda x: x, "torch.nn.Module"),
    ],
)
def test_refused_modules(module, words):
    with pytest.raises(InputRefused, match=words) as refusal:
        Problem.from_module(module, small_data(), "mse")
    one_sentence(str(refusal.value))


def test_refused_data_and_criterion():
    with pytest.raises(InputRefused, match="pair"):
        Problem.from_module(MLP((3, 4, 2)), torch.ones(3), "mse")
    with pytest.raises(InputRefused, match="cross_entropy"):
        Problem.from_module(MLP((3, 4, 2)), small_data(), "hinge")


def test_dropout_in_evaluation_mode_is_accepted():
    module = layered(nn.Linear(3, 4), nn.Dropout(0.1), nn.BatchNorm1d(4), nn.GELU(), nn.Linear(4, 2)).eval()
    assert Problem.from_module(module, small_data(), "mse").check().ok


def test_a_loss_that_leaves_the_finite_range_says_where():
    problem = Problem(lambda w: w.log().sum(), W)
    for call in (problem.value, problem.gradient, problem.linearise):
        with pytest.raises(NonFiniteLoss, match=r"‖w‖ = 2") as stop:
            call(-W)
        one_sentence(str(stop.value))
    with pytest.raises(NonFiniteLoss, match="4 of its 4 gradient entries"):
        Problem(lambda w: w.sqrt().sum(), W).gradient(torch.zeros_like(W))


# --- self-check


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize(
    "make", [lambda dtype: MLP((3, 4, 2), dtype=dtype), lambda dtype: MLP((3, 4, 2), "softplus", dtype=dtype)]
)
def test_smooth_networks_pass(make, dtype):
    report = Problem.from_module(make(dtype), small_data(dtype=dtype), "mse").check()
    assert report.ok and report.message == "" and report.dtype == F64
    assert max(report.errors) < report.tolerance
    report.require()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.LayerNorm(4), r"layers\.1 \(LayerNorm\).*numerics\.models\.LayerNorm"),
        (nn.ReLU(), r"layers\.1 \(ReLU\).*GELU"),
        (nn.ELU(), r"layers\.1 \(ELU\).*GELU"),
        (nn.Hardtanh(), r"layers\.1 \(Hardtanh\).*GELU"),
        (
            nn.Sequential(nn.Unflatten(1, (1, 4)), nn.InstanceNorm1d(1), nn.Flatten()),
            r"layers\.1\.1 \(InstanceNorm1d\)",
        ),
        (nn.Sequential(nn.MaxPool1d(2), nn.Linear(2, 4)), r"layers\.1\.0 \(MaxPool1d\).*average pooling"),
    ],
)
def test_bad_layers_are_named_with_a_replacement(layer, words):
    module = nn.Module()
    module.layers = layered(nn.Linear(3, 4), layer, nn.GELU(), nn.Linear(4, 2))
    module.forward = module.layers.forward
    report = Problem.from_module(module, small_data(), "mse").check()
    assert not report.ok and report.culprits
    with pytest.raises(InputRefused, match=words) as refusal:
        report.require()
    one_sentence(str(refusal.value))


def test_our_layer_norm_passes_where_torchs_fails():
    def network(norm):
        return layered(nn.Linear(3, 4), nn.GELU(), norm, nn.Linear(4, 2))

    data = small_data()
    bad = Problem.from_module(network(nn.LayerNorm(4)), data, "mse").check()
    good = Problem.from_module(network(LayerNorm(4)), data, "mse").check()
    assert not bad.ok and bad.errors.third > 0.01 and bad.errors.hessian < 1e-3
    assert good.ok and good.errors.third < 1e-4


def test_functions_called_inside_a_module_are_found():
    class Block(nn.Module):
        def __init__(self, f):
            super().__init__()
            self.linear, self.f = nn.Linear(3, 4), f

        def forward(self, x):
            return self.f(self.linear(x))

    for f, word in ((lambda y: nn.functional.layer_norm(y, (4,)), "LayerNorm"), (torch.relu, "smooth activation")):
        report = Problem.from_module(layered(Block(f), nn.Linear(4, 2)), small_data(), "mse").check()
        assert not report.ok and report.culprits == ("0 (Block)",) and word in report.message


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_a_linear_network_whose_third_derivatives_vanish_passes(seed, dtype):
    torch.manual_seed(seed)
    x, y = 10 * torch.randn(30, 5, dtype=dtype), torch.randn(30, 2, dtype=dtype)
    assert Problem.from_module(nn.Linear(5, 2, dtype=dtype), (x, y), "mse").check().ok

    # A bare loss that only exists in this precision.
    def loss(w):
        return half_squared_error(x @ w.view(5, 2), y)

    assert Problem(loss, torch.randn(10, dtype=dtype)).check().ok


def test_a_function_that_bends_much_within_a_step_passes():
    # Differences over the longest step are wrong by 8 % and fall as those of a smooth function.
    assert Problem(lambda w: (30 * w).sin().sum(), torch.tensor([0.1, 0.2, 0.3], dtype=F64)).check().ok


def test_kinks_are_seen_without_knowing_the_operation():
    # A clamp may be harmless, so only differences can tell. At the smallest step few of the units cross their kink.
    class Clamp(nn.Module):
        def forward(self, x):
            return x.clamp(min=0)

    for _ in range(5):
        module = layered(nn.Linear(3, 24), Clamp(), nn.Linear(24, 2))
        assert not Problem.from_module(module, small_data(100), "mse").check().ok


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda w: (w * w.detach()).sum(), "first derivatives differ from finite differences by 50 %"),
        (lambda w: w.abs().sum() + w.sin().sum(), "abs"),
        (lambda w: nn.functional.layer_norm(w * w.sin(), (4,)).cos().sum(), "NativeLayerNorm"),
        (lambda w: torch.where(w > 1, w, 2 * w).square().sum(), "Where"),
    ],
)
def test_bare_losses_are_checked(loss, words):
    report = Problem(loss, torch.tensor([1.0, 0.3, -0.7, 2.0], dtype=F64)).check()
    assert not report.ok and words in report.message
    one_sentence(report.message)


def test_a_function_that_is_differentiable_once_is_reported():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return 2 * ctx.saved_tensors[0] * g

    # torch cuts the graph there, so the Hessian comes out as zero without a word.
    report = Problem(lambda w: Once.apply(w).sum(), W).check()
    assert not report.ok and "second derivatives differ from finite differences by 100 %" in report.message


def test_an_operation_without_second_derivative_is_reported():
    def attention(w):
        q, k, v = w.view(3, 1, 1, 4, 2)
        return nn.functional.scaled_dot_product_attention(q, k, v).square().sum()

    report = Problem(attention, torch.randn(24, dtype=F64)).check()
    assert not report.ok and "autograd failed" in report.message and "SDPBackend.MATH" in report.message
    one_sentence(report.message)


@pytest.mark.parametrize("loss", [quadratic, torch.sum, lambda w: (w**4).sum()])
def test_plain_functions_pass_also_at_the_origin(loss):
    assert Problem(loss, W).check().ok
    if loss is quadratic:
        assert Problem(loss, torch.zeros_like(W)).check().ok


def test_the_check_is_reproducible_and_touches_no_global_state():
    problem = small_problem()
    before = torch.random.get_rng_state()
    assert problem.check(seed=1) == problem.check(seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
