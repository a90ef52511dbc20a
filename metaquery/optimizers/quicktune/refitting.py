"""When the predictors are fitted again to what was observed, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from metaquery.errors import UnknownName


@dataclass(frozen=True)
class RefitPolicy:
    """Steps of Adam per refit, and when one is due.

    Until `early` observations, every new one leads to `early_steps`. From then on `steps` follow when the observations
    have grown by the share `growth`, unless those since the last refit were as likely under it as those that it was
    fitted to, but for `tolerance` nats each. In between, the posterior takes new points up exactly, with all parameters
    fixed. After `patience` times the full fidelity in epochs without a better loss, both predictors start again from
    where they began, with as many steps as all early refits had; each time they wait twice as long.
    """

    early: int = 10
    early_steps: int = 20
    steps: int = 20
    growth: float = 0.2
    tolerance: float = 0.0
    patience: float = 1.2
    rate: float = 3e-4
    most_points: int = 128  # of one step, drawn at random from more


POLICIES = {
    "warm": RefitPolicy(),
    # The paper's own schedule, against which the other one is measured.
    "full": RefitPolicy(
        early_steps=1000, steps=50, growth=0.0, tolerance=-float("inf"), rate=1e-4, most_points=1_000_000
    ),
}


def refit_policy(name: str) -> RefitPolicy:
    """The policy called `name`; UnknownName where there is none."""
    if name not in POLICIES:
        raise UnknownName.of("refit of quicktune", name, POLICIES)
    return POLICIES[name]
