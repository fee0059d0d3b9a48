"""The characters of a text file, each to be predicted from those before it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from numerics.boundary import CPU
from numerics.data.targets import one_hot, require_count
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


def characters(
    path: str | Path,
    n: int = 100,
    *,
    length: int = 16,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> tuple[Int[Tensor, "n length"], Float[Tensor, "n characters length"]]:
    """Stretches of the text, evenly spread over it; the target at each position is the next character.

    The characters that occur in the file are numbered in the order of their code points.

    Args:
        path: text file in UTF-8.
        n: number of stretches.
        length: characters in each.
        dtype: floating dtype of the targets.
        device: where they live; None is the CPU.

    Returns:
        Tokens and one-hot targets.

    Raises:
        InputRefused: if the file cannot be read, or is too short for so many stretches.
    """
    text = _read(Path(path))
    if length < 1:
        raise InputRefused(f"length must be at least 1, got {length}; try 16")
    starts = len(text) - length
    if starts < 1:
        raise InputRefused(
            f"{path} must hold more than length = {length} characters, got {len(text)}; take a longer text or lower "
            f"the length"
        )
    require_count(n, starts, f"{len(text)} characters in stretches of {length}")
    number = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = torch.tensor([number[c] for c in text], dtype=torch.int64, device=CPU)
    first = torch.arange(n, device=CPU) * (starts - 1) // max(1, n - 1)
    stretches = tokens[first[:, None] + torch.arange(length + 1, device=CPU)]
    targets = one_hot(stretches[:, 1:], len(number), dtype)
    return stretches[:, :-1].to(device or CPU), targets.to(device or CPU)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputRefused(f"path must be a text file, and {path} is none ({error.strerror}); name another") from None
    except UnicodeDecodeError:
        raise InputRefused(f"path must be a text file in UTF-8, and {path} is none; convert it") from None
