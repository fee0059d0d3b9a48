import numpy as np
import torch

from numerics.boundary import normal, seeded_generator, to_numpy, to_tensor


def test_round_trip_keeps_values_shape_and_precision(device):
    for dtype in (torch.float32, torch.float64):
        t = torch.randn(3, 2, dtype=dtype, device=device, requires_grad=True)
        a = to_numpy(t)
        assert a.shape == (3, 2) and str(a.dtype) in str(dtype)
        back = to_tensor(a, t)
        assert back.device == t.device and back.dtype == dtype and not back.requires_grad
        assert torch.equal(back, t.detach())


def test_copies_share_no_memory():
    t = torch.zeros(3, dtype=torch.float64)
    a = to_numpy(t)
    a[0] = 1
    b = to_tensor(a, t)
    a[1] = 1
    assert t.sum() == 0 and b.tolist() == [1, 0, 0]


def test_device_and_dtype_come_from_like():
    like = torch.zeros((), dtype=torch.float32)
    assert to_tensor(np.arange(3), like).dtype == torch.float32
    assert to_tensor([1.5, 2.5], like).tolist() == [1.5, 2.5]


def test_normal_numbers_are_reproducible_and_leave_the_global_generator_alone(dtype):
    like = torch.zeros((), dtype=dtype)
    before = torch.random.get_rng_state()
    first = normal((4, 2), seeded_generator(3), like)
    assert torch.equal(first, normal((4, 2), seeded_generator(3), like))
    assert not torch.equal(first, normal((4, 2), seeded_generator(4), like))
    assert first.dtype == dtype and torch.equal(before, torch.random.get_rng_state())
