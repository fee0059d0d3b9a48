r"""LaTeX of expressions and of the whole derivation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theory.derivation import Derivation


def document(d: Derivation) -> str:
    raise AssertionError
