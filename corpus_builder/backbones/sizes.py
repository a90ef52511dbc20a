"""Whether a member of the portfolio takes images of a size."""

from __future__ import annotations

from corpus_builder.backbones.spec import BackboneSpec, Member
from metaquery.errors import InvalidInput


def check_size(member: Member, size: tuple[int, ...]) -> None:
    """Raise InvalidInput where `member` does not take images of the spatial shape `size`."""
    if not isinstance(member, BackboneSpec):
        return
    if min(size) < member.min_size:
        raise InvalidInput(
            f"{member.name} does not take images of {' x '.join(map(str, size))}: each side must be at least "
            f"{member.min_size}; change image_size or take another backbone"
        )
    if member.build_sized is not None:
        import torch

        with torch.device("meta"):
            member.build_sized(size, None)
