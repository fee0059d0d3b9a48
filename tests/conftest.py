"""Float64 on the CPU, one thread, seeded; `--device` and `--dtype` choose otherwise."""

import pytest
import torch

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device on which the numerics are tested")
    parser.addoption("--dtype", default="float64", choices=sorted(DTYPES), help="precision in which they are tested")
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden instead of comparing")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    # Two threads were 30 times slower under load.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def device(request):
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def dtype(request):
    return DTYPES[request.config.getoption("--dtype")]
