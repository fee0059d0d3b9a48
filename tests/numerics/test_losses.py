"""The built-in losses, and targets that they would misread."""

import pytest
import torch
from torch import nn

from numerics.errors import InputRefused
from numerics.models import MLP
from numerics.models.losses import CRITERIA, IGNORED, logistic
from numerics.problem import Problem

F64 = torch.float64
X = torch.linspace(-1, 1, 12, dtype=F64).reshape(4, 3)


def problem(outputs, targets, loss, inputs=X):
    return Problem.from_module(MLP((3, 4, outputs)), (inputs, targets), loss)


def test_logistic_is_the_cross_entropy_of_two_classes():
    f, label = torch.randn(5, 1, dtype=F64), torch.tensor([0, 1, 1, 0, 1])
    two = torch.cat([torch.zeros_like(f), f], 1)
    sign = (2 * label - 1).to(F64)[:, None]
    torch.testing.assert_close(logistic(f, sign), nn.functional.cross_entropy(two, label))


def test_one_hot_targets_and_labels_have_one_cross_entropy():
    label = torch.tensor([0, 2, 1, 2])
    one_hot = nn.functional.one_hot(label, 3).to(F64)
    a, b = problem(3, label, "cross_entropy"), problem(3, one_hot, "cross_entropy")
    torch.testing.assert_close(a.gradient(a.w0), b.gradient(b.w0))


def test_an_ignored_label_is_accepted():
    ignoring = torch.tensor([0, IGNORED, 1, 2])
    assert torch.isfinite(problem(3, ignoring, "cross_entropy").value(problem(3, ignoring, "cross_entropy").w0))


# One class has a cross-entropy of 0 everywhere.
@pytest.mark.parametrize(
    ("loss", "outputs"), [(loss, n) for loss in CRITERIA for n in (1, 2) if (loss, n) != ("cross_entropy", 1)]
)
def test_every_built_in_loss_passes_the_self_check(loss, outputs):
    sign = torch.tensor([1, -1, -1, 1], dtype=F64)[:, None].repeat(1, outputs)
    targets = torch.tensor([0, 1, 0, 0]) if loss == "cross_entropy" else sign
    report = problem(outputs, targets, loss).check()
    assert report.ok, report.message


@pytest.mark.parametrize(
    ("outputs", "targets", "loss", "words"),
    [
        (1, torch.ones(4, dtype=F64), "mse", r"shape of the outputs, \(4, 1\), got \(4,\)"),
        (2, torch.ones(4, 1, dtype=F64), "binary_mse", r"\(4, 2\), got \(4, 1\)"),
        (2, torch.tensor([0, 1, 2, 1]), "cross_entropy", "from 0 to 1 for 2 outputs, got 0 to 2"),
        (2, torch.tensor([0, -1, 1, 1]), "cross_entropy", "got -1 to 1"),
        (2, torch.tensor([0, 1, 1, 1]).int(), "cross_entropy", "int64"),
        (2, torch.tensor([[0, 1, 1, 1]]), "cross_entropy", r"shape \(4,\)"),
        (2, torch.ones(4, dtype=F64), "cross_entropy", "or be integer labels"),
        (1, torch.tensor([0, 1, 1, 1], dtype=F64)[:, None], "binary_cross_entropy", "must be -1 or 1, got values from 0 to 1"),
        (1, torch.full((4, 1), torch.nan, dtype=F64), "mse", "targets must be finite, got 4 nan or inf entries of 4"),
        (1, [1, 2, 3, 4], "mse", "targets must be a tensor"),
    ],
)  # fmt: skip
def test_refused_targets(outputs, targets, loss, words):
    with pytest.raises(InputRefused, match=words) as refusal:
        problem(outputs, targets, loss)
    one_sentence(refusal)


def one_sentence(refusal):
    message = str(refusal.value)
    assert "\n" not in message and "; " in message and not message.endswith(".")


def test_refused_inputs_and_outputs():
    for inputs, words in (
        (torch.full_like(X, torch.inf), "inputs must be finite, got 12 nan or inf entries of 12"),
        (torch.ones(4, 5, dtype=F64), r"must accept the inputs of shape \(4, 5\) .* RuntimeError"),
    ):
        with pytest.raises(InputRefused, match=words) as refusal:
            problem(1, torch.ones(4, 1, dtype=F64), "mse", inputs)
        one_sentence(refusal)

    class Pair(MLP):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(InputRefused, match="must return a tensor"):
        Problem.from_module(Pair((3, 1)), (X, torch.ones(4, 1, dtype=F64)), "mse")

    class Own:
        __hash__ = None

        def __call__(self, outputs, targets):
            return outputs[0].square().mean()

    assert Problem.from_module(Pair((3, 1)), (X, None), Own()).n == 4


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_torchs_own_recurrent_layers_are_right_in_float64(kind):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.readout = kind(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.readout(self.layer(x)[0][:, -1])

    data = torch.randn(6, 5, 3, dtype=F64), torch.randn(6, 2, dtype=F64)
    assert Problem.from_module(Last().double(), data, "mse").check().ok
