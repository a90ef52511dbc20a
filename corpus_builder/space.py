"""The search space of a study: every hyperparameter a config may have, with its domain and its core grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from corpus_builder.backbones import BackboneSpec, Member, member_spec
from corpus_builder.radiomics.space import radiomics_hyperparameters
from metaquery.errors import InvalidInput
from metaquery.space import Condition, Config, Hyperparameter, SearchSpace

Repeated = Literal["none", "evaluated", "all"]


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


def repeated_parts(config: Config) -> Repeated:
    """Of which parts every epoch shows the frozen stages of `config` the same images.

    `none` where no stage is frozen; `evaluated`, validation and test, where training images are augmented or mixed.
    """
    if float(config.get("freeze", 0.0)) == 0:
        return "none"
    return "all" if config["augmentation"] == "none" and config["mixing"] == "none" else "evaluated"


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
    tuned = Condition("freeze", (0.0, 0.25, 0.5, 0.75))
    adaptive = Condition("optimizer", ("adam", "adamw"))
    mixing = Condition("mixing", ("mixup", "cutmix", "both"))
    hyperparameters = [
        Hyperparameter(
            "freeze",
            "ordinal",
            default=0.0,
            choices=(0.0, 0.25, 0.5, 0.75, 1.0),
            grid=(0.0, 1.0),
            condition=Condition("backbone", pretrained),
            description="Fraction of the pretrained stages that is kept fixed, from the input on; 1 is linear probing.",
        ),
        Hyperparameter(
            "linear_probing_epochs",
            "integer",
            default=0,
            low=0,
            high=9,
            condition=tuned,
            description="First epochs in which only the head is trained, before the free stages join.",
        ),
        Hyperparameter(
            "layer_decay",
            "ordinal",
            default=1.0,
            choices=(0.65, 0.75, 0.9, 1.0),
            condition=tuned,
            description="Factor of the learning rate from each stage to the one before it.",
        ),
        _strength("l2_sp", tuned, "L2-SP: pull of the backbone's weights to their start, instead of to zero."),
        _strength("bss", tuned, "Batch spectral shrinkage: penalty on the smallest singular value of the features."),
        _strength("delta", tuned, "DELTA: pull of the stages' activations to those of the pretrained backbone."),
        Hyperparameter(
            "stochastic_norm",
            "ordinal",
            default=0.0,
            choices=(0.0, 0.25, 0.5),
            condition=tuned,
            description="Probability that, in training, a BatchNorm channel is normalised by its moving statistics.",
        ),
        Hyperparameter(
            "optimizer",
            "categorical",
            default="adamw",
            choices=("sgd", "momentum", "adam", "adamw"),
            grid=("adamw", "momentum"),
            description="Update rule; momentum is Nesterov's.",
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
            low=0.5,
            high=0.99,
            condition=Condition("optimizer", ("momentum",)),
            description="Nesterov momentum.",
        ),
        Hyperparameter(
            "beta1",
            "ordinal",
            default=0.9,
            choices=(0.0, 0.9, 0.95),
            condition=adaptive,
            description="Decay of Adam's first moment.",
        ),
        Hyperparameter(
            "beta2",
            "ordinal",
            default=0.999,
            choices=(0.95, 0.99, 0.999),
            condition=adaptive,
            description="Decay of Adam's second moment.",
        ),
        Hyperparameter(
            "weight_decay",
            "float",
            default=1e-4,
            low=1e-6,
            high=1e-1,
            log=True,
            grid=(1e-4, 1e-2),
            description="Decoupled for adamw, an L2 penalty for the others; not applied to biases and norm layers.",
        ),
        Hyperparameter(
            "gradient_clipping",
            "ordinal",
            default=0.0,
            choices=(0.0, 1.0, 10.0),
            description="Largest norm of the gradient of all weights; 0 does not clip.",
        ),
        Hyperparameter(
            "schedule",
            "categorical",
            default="cosine",
            choices=("none", "cosine", "step", "plateau"),
            description="Learning rate after warm-up.",
        ),
        Hyperparameter(
            "decay_rate",
            "ordinal",
            default=0.1,
            choices=(0.1, 0.3, 0.5),
            condition=Condition("schedule", ("step", "plateau")),
            description="Factor by which the learning rate is reduced.",
        ),
        Hyperparameter(
            "decay_epochs",
            "integer",
            default=9,
            low=3,
            high=18,
            condition=Condition("schedule", ("step",)),
            description="Epochs between reductions.",
        ),
        Hyperparameter(
            "patience",
            "integer",
            default=2,
            low=1,
            high=6,
            condition=Condition("schedule", ("plateau",)),
            description="Epochs without a better validation loss that are tolerated before a reduction.",
        ),
        Hyperparameter(
            "warmup_epochs", "integer", default=1, low=0, high=5, description="Epochs of linear warm-up from zero."
        ),
        Hyperparameter(
            "batch_size", "ordinal", default=32, choices=(8, 16, 32, 64, 128), description="Samples per step."
        ),
        Hyperparameter(
            "ema",
            "ordinal",
            default=0.0,
            choices=(0.0, 0.9, 0.99),
            description="Decay of the moving average of weights that is evaluated; 0 evaluates the weights themselves.",
        ),
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
            "class_balance",
            "categorical",
            default="none",
            choices=("none", "weighting", "sampling"),
            description="Rare classes: as they come, weighted in the loss, or drawn as often as the others.",
        ),
        Hyperparameter(
            "mixing",
            "categorical",
            default="none",
            choices=("none", "mixup", "cutmix", "both"),
            description="Mixing of the samples of a batch in pairs.",
        ),
        Hyperparameter(
            "mixing_alpha",
            "ordinal",
            default=0.4,
            choices=(0.2, 0.4, 1.0),
            condition=mixing,
            description="Both parameters of the Beta distribution of the mixing weight.",
        ),
        Hyperparameter(
            "mixing_probability",
            "ordinal",
            default=1.0,
            choices=(0.25, 0.5, 1.0),
            condition=mixing,
            description="Share of the batches that are mixed.",
        ),
        Hyperparameter(
            "augmentation",
            "categorical",
            default="none",
            choices=("none", "light", "medical", "trivial"),
            grid=("none", "medical"),
            description="Random transformations of training images; medical keeps to what the anatomy allows.",
        ),
    ]
    kept = {"backbone"}  # without pretrained backbones nothing depends on them
    for hp in hyperparameters:
        if hp.condition is None or (hp.condition.values and hp.condition.parent in kept):
            kept.add(hp.name)
    return [hp for hp in hyperparameters if hp.name in kept]


def _strength(name: str, condition: Condition, description: str) -> Hyperparameter:
    return Hyperparameter(
        name,
        "ordinal",
        default=0.0,
        choices=(0.0, 1e-4, 1e-3, 1e-2, 1e-1),
        condition=condition,
        description=f"{description} 0 is off.",
    )
