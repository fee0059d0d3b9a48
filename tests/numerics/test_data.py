"""Data sets: shapes, what they contain, seeds, and one sentence for what cannot be had."""

import pickle
import sys

import numpy as np
import pytest
import torch

from numerics import data
from numerics.boundary import from_array
from numerics.data.cifar10 import cifar10
from numerics.errors import InputRefused

F64 = torch.float64
DRAWN = (data.moons, data.circles, data.classification, data.sorting, data.copying)


def labels(targets):
    return targets.argmax(1)


@pytest.mark.parametrize("make", DRAWN)
def test_drawn_data_are_seeded_and_follow_dtype_and_device(make, dtype, device):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    with torch.device("meta"):
        (x, y), again, other = (make(12, seed=s, dtype=dtype, device=device) for s in (0, 0, 1))
    assert torch.equal(before[0], torch.random.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
    assert len(x) == len(y) == 12 and y.dtype == dtype and x.device.type == y.device.type == device.type
    assert x.dtype in {dtype, torch.int64}
    assert torch.equal(x, again[0]) and torch.equal(y, again[1]) and not torch.equal(x, other[0])
    assert ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all()


def test_moons_and_circles_lie_on_their_curves():
    x, y = data.moons(200, noise=0)
    upper = x[labels(y) == 0]
    assert (upper[:, 1] >= 0).all()
    torch.testing.assert_close(upper.norm(dim=1), torch.ones(100, dtype=F64))
    x, y = data.circles(200, noise=0, factor=0.3)
    radius = torch.where(labels(y) == 0, 1.0, 0.3).to(F64)
    torch.testing.assert_close(x.norm(dim=1), radius)


def test_classification_has_its_sizes():
    x, y = data.classification(50, features=6, classes=4)
    assert x.shape == (50, 6) and y.shape == (50, 4) and set(labels(y).tolist()) == {0, 1, 2, 3}


def test_sorting():
    x, y = data.sorting(40, length=5, vocabulary=7)
    assert x.shape == (40, 10) and y.shape == (40, 7, 5)
    ordered = x[:, :5].sort(1).values
    assert torch.equal(labels(y), ordered) and torch.equal(x[:, 6:], ordered[:, :-1]) and (x[:, 5] == 7).all()
    assert x[:, :5].unique().tolist() == list(range(7))


def test_copying():
    x, y = data.copying(40, length=3, delay=4, vocabulary=5)
    assert x.shape == (40, 10) and torch.equal(labels(y), x[:, :3])
    assert (x[:, 3:] == torch.tensor([5, 5, 5, 5, 6, 5, 5])).all()


def test_digits_come_in_three_forms_and_fewer_classes():
    vectors, _ = data.digits(20)
    images, series = (data.digits(20, form=form)[0] for form in ("images", "series"))
    assert images.shape == (20, 1, 8, 8) and torch.equal(images.flatten(1), vectors)
    assert series.shape == (20, 8, 8) and torch.equal(series.flatten(1), vectors)
    _, two = data.digits(360, classes=2)
    assert two.shape == (360, 2) and set(labels(two).tolist()) == {0, 1}


def test_characters(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("abcabcabc daß", encoding="utf-8")
    x, y = data.characters(file, 9, length=4)
    letters = sorted(set("abcabcabc daß"))
    texts = ["".join(letters[i] for i in row) for row in torch.cat([x[:, :1], labels(y)], 1).tolist()]
    assert texts == ["abcabcabc daß"[i : i + 5] for i in range(9)]
    assert torch.equal(x[:, 1:], labels(y)[:, :-1]) and y.shape == (9, len(letters), 4)
    assert data.characters(file, 2, length=4)[0].tolist() == [x[0].tolist(), x[8].tolist()]


def test_mnist1d():
    before = np.random.get_state()[1].copy()
    x, y = data.mnist1d(25)
    assert x.shape == (25, 40) and y.shape == (25, 10) and set(labels(y).tolist()) == set(range(10))
    assert (before == np.random.get_state()[1]).all()
    assert torch.equal(data.mnist1d(25, form="series")[0], x[:, :, None]) and torch.equal(data.mnist1d(25)[0], x)
    assert not torch.equal(data.mnist1d(25, seed=1)[0], x)


def test_mnist1d_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    refused(lambda: data.mnist1d(), r"pip install .*\[mnist1d\]")


# --- files


PIXELS = np.random.default_rng(0).integers(0, 256, (30, 3072), dtype=np.uint8)
NUMBERS = np.arange(30) % 10


def batches(folder, protocol=4):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(3):
        rows = slice(10 * i, 10 * i + 10)
        content = {b"data": PIXELS[rows], b"labels": NUMBERS[rows].tolist(), b"filenames": [b"x"] * 10}
        (folder / f"data_batch_{i + 1}").write_bytes(pickle.dumps(content, protocol))
    return folder


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar10_from_the_python_batches(tmp_path, protocol):
    batches(tmp_path / "cifar-10-batches-py", protocol)
    x, y = cifar10(tmp_path, 25)
    assert x.shape == (25, 3, 32, 32) and labels(y).tolist() == NUMBERS[:25].tolist()
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3, dtype=F64), atol=1e-12, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3, dtype=F64))
    raw = torch.tensor(PIXELS[:25].reshape(25, 3, 32, 32), dtype=F64)
    red = raw[:, 0]
    torch.testing.assert_close(x[:, 0], (red - red.mean()) / red.std(correction=0))
    direct = cifar10(tmp_path / "cifar-10-batches-py", 25)
    assert torch.equal(direct[0], x)


def test_cifar10_from_an_npz_in_any_layout(tmp_path):
    expected = cifar10(batches(tmp_path / "b"), 30)
    square = PIXELS.reshape(30, 3, 32, 32)
    for key, images in (("flat", PIXELS), ("first", square), ("last", square.transpose(0, 2, 3, 1))):
        np.savez(tmp_path / f"{key}.npz", images=images, labels=NUMBERS[:, None])
        assert torch.equal(cifar10(tmp_path / f"{key}.npz", 30)[0], expected[0])
    x, y = cifar10(tmp_path / "last.npz", 6, classes=2, size=8)
    assert x.shape == (6, 3, 8, 8) and labels(y).tolist() == [0, 1] * 3


class Malicious:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle was run')",)


def test_a_batch_cannot_run_code(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": Malicious(), b"labels": [0]}))
    refused(lambda: cifar10(tmp_path, 1), "builtins.exec")


def saved(folder, name="a.npz", **content):
    file = folder / name
    np.savez(file, **content)
    return file


def test_arrays_from_npz_and_pt(tmp_path, dtype):
    X, Y = np.random.default_rng(1).normal(size=(6, 2, 3)), np.array([0, 2, 1, 0, 2, 1], np.uint8)
    x, y = data.arrays(saved(tmp_path, X=X, Y=Y), 4, inputs="X", targets="Y", dtype=dtype)
    assert x.dtype == y.dtype == dtype and labels(y).tolist() == [0, 2, 1, 0] and y.shape == (4, 3)
    torch.testing.assert_close(x, torch.tensor(X[:4], dtype=dtype))
    real = torch.randn(6)
    for content in ({"inputs": torch.tensor(X), "targets": real}, (torch.tensor(X), real)):
        torch.save(content, tmp_path / "a.pt")
        x, y = data.arrays(tmp_path / "a.pt", dtype=dtype)
        assert x.shape == (6, 2, 3) and torch.equal(y, real[:, None].to(dtype))


def test_arrays_of_tokens_with_labels_at_each_position(tmp_path):
    tokens = np.array([[1, 2, 0], [0, 1, 1]])
    x, y = data.arrays(saved(tmp_path, inputs=tokens, targets=tokens[:, 1:]))
    assert x.dtype == torch.int64 and y.shape == (2, 3, 2) and labels(y).tolist() == [[2, 0], [1, 1]]


def test_arrays_keep_their_precision_at_the_boundary():
    assert from_array(np.ones(2, np.float32)).dtype == torch.float32
    assert from_array(np.array([2**31], np.uint32)).tolist() == [2**31]


def test_binary_and_distributions():
    _, y = data.moons(10)
    assert torch.equal(data.binary(y), torch.where(labels(y) == 1, 1.0, -1.0)[:, None].to(F64))
    _, y = data.sorting(3, length=2, vocabulary=2)
    assert data.binary(y).shape == (3, 1, 2)
    assert data.distributions(y) is y
    assert torch.equal(data.one_hot(torch.tensor([[1, 0]]), 2, F64), torch.tensor([[[0, 1], [1, 0]]]).to(F64))


def refused(make, words):
    with pytest.raises(InputRefused, match=words) as refusal:
        make()
    message = str(refusal.value)
    assert "\n" not in message and "; " in message and not message.endswith(".")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: data.digits(179, classes=1), "classes must be between 2 and 10"),
        (lambda: data.digits(361, classes=2), "between 1 and 360"),
        (lambda: data.digits(form="words"), "vectors, images, series"),
        (lambda: data.moons(0), "at least 1"),
        (lambda: data.moons(noise=-1), "noise"),
        (lambda: data.circles(factor=1), "factor"),
        (lambda: data.classification(features=2, classes=3), "2 to 2"),
        (lambda: data.sorting(length=0), "length"),
        (lambda: data.sorting(vocabulary=1), "vocabulary"),
        (lambda: data.copying(delay=-1), "delay"),
        (lambda: data.binary(torch.ones(3, 3)), "two classes, got 3"),
        (lambda: data.binary(torch.ones(3, 2)), "one-hot"),
        (lambda: data.distributions(torch.ones(3, 2)), "sum to 1"),
        (lambda: data.distributions(torch.ones(3, 1)), "two classes"),
        (lambda: data.one_hot(torch.tensor([3]), 3, F64), "from 0 to 2, got 3"),
    ],
)
def test_refusals(make, words):
    refused(make, words)


GOOD, ROWS = np.zeros((3, 2)), np.arange(3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (dict(inputs=GOOD), "'inputs' and 'targets', got 'inputs'"),
        (dict(inputs=GOOD, targets=np.arange(4)), r"\(3, 2\) and \(4,\)"),
        (dict(inputs=np.zeros(3), targets=ROWS), r"\(n, …\)"),
        (dict(inputs=np.full((3, 2), np.nan), targets=ROWS), "6 nan or inf entries of 6"),
        (dict(inputs=GOOD, targets=np.array([0.0, np.inf, 1])), "targets of .* finite"),
        (dict(inputs=GOOD, targets=ROWS - 1), "from -1 on"),
        (dict(inputs=GOOD.astype(bool), targets=ROWS), "torch.bool"),
        (dict(inputs=np.zeros((3, 2, 2), int), targets=ROWS), "integer tokens"),
        (dict(inputs=GOOD, targets=GOOD[:2]), "one row per example"),
    ],
)
def test_refused_arrays(tmp_path, content, words):
    file = saved(tmp_path, **content)
    refused(lambda: data.arrays(file), words)


def test_refused_files(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("short")
    (tmp_path / "b.npz").write_bytes(b"PK nothing")
    (tmp_path / "b.pt").write_bytes(b"nothing")
    (tmp_path / "latin.txt").write_bytes(b"\xe4\xf6\xfc")
    refused(lambda: data.arrays(tmp_path / "none.npz"), "does not exist")
    refused(lambda: data.arrays(tmp_path / "none.pt"), "does not exist")
    refused(lambda: data.arrays(tmp_path / "b.npz"), "is none")
    refused(lambda: data.arrays(tmp_path / "b.pt"), "is none")
    refused(lambda: data.arrays(saved(tmp_path, inputs=GOOD, targets=ROWS), 4), "between 1 and 3")
    refused(lambda: data.characters(tmp_path / "none.txt"), "No such file")
    refused(lambda: data.characters(tmp_path / "latin.txt"), "UTF-8")
    refused(lambda: data.characters(text, length=5), "more than length = 5")
    refused(lambda: data.characters(text, 9, length=2), "between 1 and 3")
    refused(lambda: cifar10(tmp_path / "none"), "does not exist; unpack the python version")
    refused(lambda: cifar10(tmp_path), "has no data_batch_1")
    refused(lambda: cifar10(tmp_path / "b.npz"), "no .npz file of arrays")
    refused(lambda: cifar10(saved(tmp_path, images=PIXELS)), "must hold images and labels, got images")
    refused(lambda: cifar10(saved(tmp_path, images=PIXELS, labels=NUMBERS[:9])), r"\(30, 3072\) and \(9,\)")
    refused(lambda: cifar10(saved(tmp_path, images=PIXELS * np.nan, labels=NUMBERS)), "finite numbers")
    refused(lambda: cifar10(saved(tmp_path, images=PIXELS, labels=NUMBERS + 5)), "must be from 0 to 9, got 5 to 14")
    refused(lambda: cifar10(saved(tmp_path, images=PIXELS, labels=NUMBERS), 31), "between 1 and 30")
    refused(lambda: cifar10(tmp_path, size=5), "divide 32")
