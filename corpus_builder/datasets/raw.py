"""A dataset as its files hold it, and the check that it is what its card says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidData, MedCurvesError

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card

ROLES = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class RawDataset:
    """Samples before any preparation.

    `images` is (n, *spatial) or, with several channels, (n, *spatial, channels), uint8; `labels` (n,) int64;
    `groups` (n,) of strings, one own group per sample where the source knows none; `official_roles` (n,) of
    `train`, `val` and `test`, (folds, n) where a table gives those of several folds, or None; `origin` names the file
    in messages. `masks` are the regions of interest, (n, *spatial) of bool, and `spacing` the millimetres between
    neighbours along each axis, (n, n_dims); both are None where the source does not tell. `read` has the SHA-256 of
    each file that was read below the card's folder, by its path there.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    official_roles: NDArray[np.str_] | None
    origin: str
    masks: NDArray[np.bool_] | None = None
    spacing: NDArray[np.float64] | None = None
    read: Mapping[str, str] = field(default_factory=dict)

    def check(self, card: Card) -> None:
        """Raise InvalidData where the arrays contradict each other or `card`."""
        refuse(self.problems(card))

    def problems(self, card: Card) -> list[str]:
        """Where the arrays contradict each other or `card`, one line each."""
        found = [*self._expect("number of images", card.n_samples, len(self.images)), *self._faults(card)]
        return found if self._faults(card) else [*found, *self._differences(card)]

    def usable(self, card: Card) -> bool:
        """Whether labels, groups and official roles can be split, even where counts are not those of `card`."""
        return not self._faults(card)

    def _faults(self, card: Card) -> list[str]:
        n = len(self.images)
        found = self._expect("type of the images", np.dtype(np.uint8), self.images.dtype)
        found += self._expect("dimensions of the images", card.n_dims + 1 + (card.channels > 1), self.images.ndim)
        if card.channels > 1 and not found:
            found += self._expect("channels (last axis of the images)", card.channels, self.images.shape[-1])
        spatial = self.images.shape[1 : 1 + card.n_dims]
        arrays = {
            "labels": (self.labels, (n,)),
            "groups": (self.groups, (n,)),
            "official roles": (self.official_roles, (card.split.folds, n) if card.split.kind == "table" else (n,)),
            "masks": (self.masks, (n, *spatial)),
            "spacing": (self.spacing, (n, card.n_dims)),
        }
        for name, (array, shape) in arrays.items():
            if array is not None:
                found += self._expect(f"shape of the {name}", shape, array.shape)
        outside = np.unique(self.labels[(self.labels < 0) | (self.labels >= len(card.classes))])
        if len(outside):
            labels = f"labels from 0 to {len(card.classes) - 1} ({', '.join(card.classes)})"
            found.append(self._contradiction(labels, f"also {outside[:5].tolist()}"))
        if card.split.kind == "official":
            roles = [] if self.official_roles is None else np.unique(self.official_roles).tolist()
            found += self._expect("official roles", sorted(ROLES), roles)
        return found

    def _differences(self, card: Card) -> list[str]:
        found = []
        if card.class_counts:
            counts = np.bincount(self.labels, minlength=len(card.classes)).tolist()
            expected = dict(zip(card.classes, card.class_counts, strict=True))
            found += self._expect("samples per class", expected, dict(zip(card.classes, counts, strict=True)))
        if card.split_counts:
            roles = Counter([] if self.official_roles is None else self.official_roles.tolist())
            found += self._expect("samples per role", {role: card.split_counts[role] for role in ROLES}, dict(roles))
        if card.shape:
            found += self._expect("shape of a sample", card.shape, self.images.shape[1 : 1 + card.n_dims])
        found += self._expect("number of groups", card.n_groups, len(np.unique(self.groups)))
        return [*found, *self._mixed_groups(card)]

    def _mixed_groups(self, card: Card) -> list[str]:
        """Groups of volumes with samples of several classes: rather a wrong label than lesions of one patient."""
        if card.volume is None or card.mixed_groups:
            return []
        pairs = np.unique(np.stack([np.unique(self.groups, return_inverse=True)[1], self.labels]), axis=1)
        members, counts = np.unique(pairs[0], return_counts=True)
        mixed = np.unique(self.groups)[members[counts > 1]].tolist()
        if not mixed:
            return []
        shown = ", ".join(map(repr, mixed[:3]))
        return [
            f"{self.origin}: expected one label per group, got several in {len(mixed)}, such as {shown}; correct the "
            "labels, or add  mixed_groups: true  to the card if labels belong to lesions and not to patients"
        ]

    def _expect(self, what: str, expected: Any, found: Any) -> list[str]:
        return [] if expected == found else [self._contradiction(f"{what} {expected}", str(found))]

    def _contradiction(self, expected: str, found: str) -> str:
        return (
            f"{self.origin}: expected {expected}, got {found}; get the file that the card describes or correct the card"
        )


def refuse(problems: Sequence[str], error: type[MedCurvesError] = InvalidData) -> None:
    """Raise `error` with the first of `problems`, if there are any. Its notes (PEP 678) are all of them."""
    if not problems:
        return
    others = f" (and {len(problems) - 1} more: corpus-builder datasets check lists them)" if len(problems) > 1 else ""
    raised = error(problems[0] + others)
    for problem in problems:
        raised.add_note(problem)
    raise raised


def problems_of(error: MedCurvesError) -> list[str]:
    """All problems that `error`, perhaps raised by `refuse`, stands for, one line each."""
    return list(getattr(error, "__notes__", None) or [str(error)])


def own_groups(n: int) -> NDArray[np.str_]:
    """One group per sample, for sources that know no groups."""
    return np.char.zfill(np.arange(n).astype(np.str_), len(str(n)))
