"""The search space of a study: every hyperparameter a config may have, with its domain and its core grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from corpus_builder.backbones import BackboneSpec, Member, member_spec
from corpus_builder.radiomics.space import radiomics_hyperparameters
from metaquery.errors import InvalidInput
from metaquery.space import Condition, Hyperparameter, SearchSpace


def search_space(backbones: Sequence[str]) -> SearchSpace:
    """The conditional space over `backbones`.

    `corpus_builder.recipe` says what the hyperparameters of networks do, `corpus_builder.radiomics` what those of
    classical members do. Where both kinds are in `backbones`, each hyperparameter is active for its own kind alone;
    over networks alone the space is that of the recipe.
    """
    if not backbones:
        raise InvalidInput("a search space needs at least one backbone, got none")
    members = [member_spec(name) for name in backbones]
    networks = [member for member in members if isinstance(member, BackboneSpec)]
    classical = [member for member in members if not isinstance(member, BackboneSpec)]
    backbone = Hyperparameter(
        "backbone",
        "categorical",
        default=backbones[0],
        choices=tuple(backbones),
        grid=tuple(backbones),
        description="Architecture and weights that are fine-tuned.",
    )
    return SearchSpace(
        "medcurves",
        (
            backbone,
            *_only_for(networks, members, network_hyperparameters(networks) if networks else []),
            *_only_for(classical, members, radiomics_hyperparameters(classical) if classical else []),
        ),
    )


def _only_for(
    some: Sequence[Member], members: Sequence[Member], hyperparameters: list[Hyperparameter]
) -> list[Hyperparameter]:
    """`hyperparameters` with those that have no condition active for `some` of the `members` alone."""
    if len(some) == len(members):
        return hyperparameters
    condition = Condition("backbone", tuple(member.name for member in some))
    return [hp if hp.condition is not None else replace(hp, condition=condition) for hp in hyperparameters]


def network_hyperparameters(networks: Sequence[BackboneSpec]) -> list[Hyperparameter]:
    """What is tuned of `networks`, at least one."""
    pretrained = tuple(network.name for network in networks if network.weights is not None)
    hyperparameters = [
        Hyperparameter(
            "freeze",
            "ordinal",
            default=0.0,
            choices=(0.0, 0.5, 1.0),
            grid=(0.0, 1.0),
            condition=Condition("backbone", pretrained),
            description="Fraction of the pretrained stages that is kept fixed, from the input on.",
        ),
        Hyperparameter(
            "optimizer",
            "categorical",
            default="adamw",
            choices=("adamw", "sgd"),
            grid=("adamw", "sgd"),
            description="Update rule.",
        ),
        Hyperparameter(
            "lr",
            "float",
            default=1e-3,
            low=1e-5,
            high=1e-1,
            log=True,
            grid=(1e-4, 1e-3, 1e-2),
            description="Peak learning rate.",
        ),
        Hyperparameter(
            "momentum",
            "float",
            default=0.9,
            low=0.0,
            high=0.99,
            condition=Condition("optimizer", ("sgd",)),
            description="Nesterov momentum; 0 is plain gradient descent.",
        ),
        Hyperparameter(
            "weight_decay",
            "float",
            default=1e-4,
            low=1e-6,
            high=1e-1,
            log=True,
            description="Decoupled for adamw, an L2 penalty for sgd; not applied to biases and norm layers.",
        ),
        Hyperparameter(
            "schedule",
            "categorical",
            default="cosine",
            choices=("none", "cosine"),
            description="Learning rate after warm-up: constant, or a half cosine to zero at the last planned step.",
        ),
        Hyperparameter(
            "warmup_epochs", "integer", default=1, low=0, high=5, description="Epochs of linear warm-up from zero."
        ),
        Hyperparameter("batch_size", "ordinal", default=32, choices=(16, 32, 64), description="Samples per step."),
        Hyperparameter(
            "dropout", "float", default=0.0, low=0.0, high=0.5, description="Dropout before the classification head."
        ),
        Hyperparameter(
            "label_smoothing",
            "float",
            default=0.0,
            low=0.0,
            high=0.2,
            description="Share of the target spread evenly over the classes.",
        ),
        Hyperparameter(
            "augmentation",
            "categorical",
            default="none",
            choices=("none", "light"),
            description="none, or light: random shift by up to a tenth of each axis, brightness and contrast.",
        ),
    ]
    return [hp for hp in hyperparameters if hp.condition is None or hp.condition.values]
