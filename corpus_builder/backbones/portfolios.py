"""Lists of backbones that go by one word, `portfolio:NAME`, wherever names of backbones are given."""

from __future__ import annotations

from collections.abc import Iterable

from corpus_builder.backbones.timm_models import PREFIX as TIMM
from metaquery.errors import UnknownName

PREFIX = "portfolio:"

# The 24 models of Quick-Tune (Pineda Arango et al., ICLR 2024) as its tables call them, and as timm has named them
# since: a name without a tag meant the weights that were the default then, which each of these still is.
QUICKTUNE = {
    "beit_base_patch16_384": "beit_base_patch16_384.in22k_ft_in22k_in1k",
    "beit_large_patch16_512": "beit_large_patch16_512.in22k_ft_in22k_in1k",
    "convnext_small_384_in22ft1k": "convnext_small.fb_in22k_ft_in1k_384",
    "deit3_small_patch16_384_in21ft1k": "deit3_small_patch16_384.fb_in22k_ft_in1k",
    "dla46x_c": "dla46x_c.in1k",
    "edgenext_small": "edgenext_small.usi_in1k",
    "edgenext_x_small": "edgenext_x_small.in1k",
    "edgenext_xx_small": "edgenext_xx_small.in1k",
    "mobilevit_xs": "mobilevit_xs.cvnets_in1k",
    "mobilevit_xxs": "mobilevit_xxs.cvnets_in1k",
    "mobilevitv2_075": "mobilevitv2_075.cvnets_in1k",
    "swinv2_base_window12to24_192to384_22kft1k": "swinv2_base_window12to24_192to384.ms_in22k_ft_in1k",
    "tf_efficientnet_b4_ns": "tf_efficientnet_b4.ns_jft_in1k",
    "tf_efficientnet_b6_ns": "tf_efficientnet_b6.ns_jft_in1k",
    "tf_efficientnet_b7_ns": "tf_efficientnet_b7.ns_jft_in1k",
    "volo_d1_384": "volo_d1_384.sail_in1k",
    "volo_d3_448": "volo_d3_448.sail_in1k",
    "volo_d4_448": "volo_d4_448.sail_in1k",
    "volo_d5_448": "volo_d5_448.sail_in1k",
    "volo_d5_512": "volo_d5_512.sail_in1k",
    "xcit_nano_12_p8_384_dist": "xcit_nano_12_p8_384.fb_dist_in1k",
    "xcit_small_12_p8_384_dist": "xcit_small_12_p8_384.fb_dist_in1k",
    "xcit_tiny_12_p8_384_dist": "xcit_tiny_12_p8_384.fb_dist_in1k",
    "xcit_tiny_24_p8_384_dist": "xcit_tiny_24_p8_384.fb_dist_in1k",
}

PORTFOLIOS = {"quicktune": tuple(f"{TIMM}{name}" for name in QUICKTUNE.values())}


def members(name: str) -> tuple[str, ...]:
    """Names of the backbones of the portfolio `name`."""
    if name not in PORTFOLIOS:
        raise UnknownName.of("portfolio", name, PORTFOLIOS)
    return PORTFOLIOS[name]


def expand_portfolios(names: Iterable[str]) -> list[str]:
    """`names` with every `portfolio:NAME` replaced by its backbones; a backbone that comes twice stays once."""
    expanded: list[str] = []
    for name in names:
        expanded += members(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else [name]
    return list(dict.fromkeys(expanded))
