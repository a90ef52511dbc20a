"""A dataset as its files hold it, and the check that it is what its card says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidData

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card

ROLES = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class RawDataset:
    """Samples before any preparation.

    `images` is (n, *spatial) or, with several channels, (n, *spatial, channels), uint8; `labels` (n,) int64;
    `groups` (n,) of strings, one own group per sample where the source knows none; `official_roles` (n,) of
    `train`, `val` and `test`, or None; `origin` names the file in messages.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    official_roles: NDArray[np.str_] | None
    origin: str

    def check(self, card: Card) -> None:
        """Raise InvalidData where the arrays contradict each other or `card`."""
        self._expect("type of the images", np.dtype(np.uint8), self.images.dtype)
        self._expect("dimensions of the images", card.n_dims + 1 + (card.channels > 1), self.images.ndim)
        n = len(self.images)
        if card.channels > 1:
            self._expect("channels (last axis of the images)", card.channels, self.images.shape[-1])
        self._expect("number of images", card.n_samples, n)
        arrays = {"labels": self.labels, "groups": self.groups, "official roles": self.official_roles}
        for name, array in arrays.items():
            if array is not None:
                self._expect(f"shape of the {name}", (n,), array.shape)
        outside = np.unique(self.labels[(self.labels < 0) | (self.labels >= len(card.classes))])
        if len(outside):
            self._refuse(
                f"labels from 0 to {len(card.classes) - 1} ({', '.join(card.classes)})", f"also {outside[:5].tolist()}"
            )
        counts = np.bincount(self.labels, minlength=len(card.classes)).tolist()
        named = dict(zip(card.classes, counts, strict=True))
        self._expect("samples per class", dict(zip(card.classes, card.class_counts, strict=True)), named)
        self._expect("number of groups", card.n_groups, len(np.unique(self.groups)))
        if card.split.kind == "official":
            found = [] if self.official_roles is None else np.unique(self.official_roles).tolist()
            self._expect("official roles", sorted(ROLES), found)

    def _expect(self, what: str, expected: Any, found: Any) -> None:
        if expected != found:
            self._refuse(f"{what} {expected}", str(found))

    def _refuse(self, expected: str, found: str) -> None:
        raise InvalidData(
            f"{self.origin}: expected {expected}, got {found}; get the file that the card describes or correct the card"
        )


def own_groups(n: int) -> NDArray[np.str_]:
    """One group per sample, for sources that know no groups."""
    return np.char.zfill(np.arange(n).astype(np.str_), len(str(n)))
