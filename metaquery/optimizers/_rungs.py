"""The epochs at which multi-fidelity methods compare configs."""

from __future__ import annotations

from metaquery.errors import InvalidInput


def rungs(max_epochs: int, eta: int, name: str) -> list[int]:
    """max, max / eta, max / eta^2 ... of at least one epoch, rounded, in ascending order.

    Raises InvalidInput, which names the optimizer `name`, where that is not at least two rungs.
    """
    if eta < 2:
        raise InvalidInput(f"option eta of {name} must be at least 2, got {eta}")
    if max_epochs < eta:
        raise InvalidInput(f"{name} with eta {eta} needs a task of at least {eta} epochs, got {max_epochs}")
    levels: list[int] = []
    power = 1
    while power <= max_epochs:
        levels.insert(0, round(max_epochs / power))
        power *= eta
    return levels
