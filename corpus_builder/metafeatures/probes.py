"""Probes: what two fixed nets, the same for every dataset, make of a bounded subset of the training part."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from corpus_builder.metafeatures import scores
from corpus_builder.metafeatures.descriptor import Descriptor, Undefined
from corpus_builder.metafeatures.entropy import effective_rank, entropy
from corpus_builder.metafeatures.part import TrainingPart
from metaquery.errors import InvalidData, InvalidInput
from metaquery.metrics import auc, balanced_accuracy

if TYPE_CHECKING:
    from corpus_builder.metafeatures.probe_features import FixedNet

_SAMPLES = 512
_SAMPLES_OF_CLASS = 20
_FISHER_SAMPLES = 48


class Subset(NamedTuple):
    """The samples that are probed, by class and then by hash: `images` (n, channels, *spatial), `labels` and `groups`
    (n,), whole numbers from 0 without gaps."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


def probed_subset(part: TrainingPart) -> Subset:
    """About 512 samples in the proportions of the classes, but at least 20 of each class that has as many."""
    size = min(len(part.labels), _SAMPLES)
    chosen: list[int] = []
    for label in np.unique(part.labels):
        members = part.ranked[part.labels[part.ranked] == label]
        share = size * len(members) // len(part.labels)
        chosen += members[: max(share, _SAMPLES_OF_CLASS)].tolist()
    first_of: dict[str, int] = {}  # groups are numbered as they appear, so that their names do not matter
    groups = [first_of.setdefault(group, len(first_of)) for group in part.groups[chosen].tolist()]
    labels = np.unique(part.labels[chosen], return_inverse=True)[1]
    return Subset(part.images[chosen], labels, np.array(groups))


def _net(part: TrainingPart, name: str) -> FixedNet:
    from corpus_builder.backbones import backbone_spec
    from corpus_builder.backbones.weights import weights_path
    from corpus_builder.metafeatures.probe_features import IMAGENET, imagenet_net, random_net

    if name == "random":
        return random_net(part.images.ndim - 2)
    try:
        weights_path(backbone_spec(IMAGENET), part.weights_root)
    except InvalidData:
        raise
    except InvalidInput as error:  # there is no file: not an error here, unlike one that is damaged
        raise Undefined(str(error)) from None
    return imagenet_net(part.weights_root)


def _features(part: TrainingPart, name: str) -> NDArray[np.float64]:
    return part.shared(_net, name).features(part.shared(probed_subset).images)


def _out_of_fold(part: TrainingPart, name: str) -> NDArray[np.float64]:
    features, subset = part.shared(_features, name), part.shared(probed_subset)
    _need_groups(subset, scores.FOLDS)
    return scores.out_of_fold(features, subset.labels, subset.groups)


def _fisher(part: TrainingPart, name: str) -> NDArray[np.float64]:
    """Traces of the Fisher information of the net's convolutions, on samples of all classes."""
    features, subset = part.shared(_features, name), part.shared(probed_subset)
    _need_groups(subset, 1)
    head = scores.linear_head(features, subset.labels)
    chosen = np.unique(np.arange(_FISHER_SAMPLES) * len(subset.labels) // _FISHER_SAMPLES)
    traces = part.shared(_net, name).fisher_information(subset.images[chosen], *head)
    if not traces.sum() > 0:
        raise Undefined("the images are constant, and the net sees nothing in them")
    return traces


def _need_groups(subset: Subset, needed: int) -> None:
    """Raise Undefined where there is one class only, or where a class has fewer groups than `needed`."""
    classes = np.unique(subset.labels)
    if len(classes) < 2:
        raise Undefined("the training part has one class only")
    if min(len(np.unique(subset.groups[subset.labels == label])) for label in classes) < needed:
        raise Undefined(f"a class has fewer than {needed} groups in the training part")


def _neighbour_accuracy(part: TrainingPart, name: str) -> float:
    features, subset = part.shared(_features, name), part.shared(probed_subset)
    _need_groups(subset, 2)
    return scores.neighbour_accuracy(features, subset.labels, subset.groups)


def _linear_auc(part: TrainingPart, name: str) -> float:
    return auc(part.shared(probed_subset).labels, part.shared(_out_of_fold, name))


def _linear_accuracy(part: TrainingPart, name: str) -> float:
    return balanced_accuracy(part.shared(probed_subset).labels, part.shared(_out_of_fold, name))


def _of_classes(part: TrainingPart, name: str, score: Callable[[scores.Features, scores.Labels], float]) -> float:
    features, subset = part.shared(_features, name), part.shared(probed_subset)
    _need_groups(subset, 1)
    return score(features, subset.labels)


def _silhouette(part: TrainingPart, name: str) -> float:
    if len(part.class_shares) == len(part.labels):
        raise Undefined("every sample has a class of its own")
    return _of_classes(part, name, scores.silhouette)


def _effective_rank(part: TrainingPart, name: str) -> float:
    features = part.shared(_features, name)
    singular = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)
    return effective_rank(np.square(singular))


def _fisher_trace(part: TrainingPart, name: str) -> float:
    return float(part.shared(_fisher, name).sum())


def _fisher_entropy(part: TrainingPart, name: str) -> float:
    traces = part.shared(_fisher, name)
    return entropy(traces / traces.sum()) / float(np.log(len(traces)))


def _fisher_share(part: TrainingPart, name: str, third: int) -> float:
    traces = part.shared(_fisher, name)
    return float(np.array_split(traces, 3)[third].sum() / traces.sum())


_NETS = {"imagenet": "ImageNet features", "random": "Random features"}
_MEASURES: dict[str, tuple[str, Callable[..., float]]] = {
    "knn_balanced_accuracy": ("balanced accuracy of 5 nearest neighbours from other groups", _neighbour_accuracy),
    "linear_auc": ("AUC of a linear probe, 5 folds of whole groups", _linear_auc),
    "linear_balanced_accuracy": ("balanced accuracy of the linear probe", _linear_accuracy),
    "logme": ("log evidence of the labels in a linear model, nats a sample", partial(_of_classes, score=scores.logme)),
    "separability": ("share of the scatter that is between classes", partial(_of_classes, score=scores.separability)),
    "silhouette": ("mean silhouette of the classes", _silhouette),
    "effective_rank": ("independent directions in which the samples vary", _effective_rank),
    "fisher_trace": ("Fisher information of the weights under a linear head (Task2Vec), summed", _fisher_trace),
    "fisher_entropy": ("entropy over its maximum of that information's spread over the layers", _fisher_entropy),
    "fisher_early": ("share of that information in the first third of the layers", partial(_fisher_share, third=0)),
    "fisher_middle": ("share of that information in the middle third of the layers", partial(_fisher_share, third=1)),
    "fisher_late": ("share of that information in the last third of the layers", partial(_fisher_share, third=2)),
}

DESCRIPTORS = tuple(
    Descriptor(f"{net}_{measure}", f"{features}: {meaning}", partial(function, name=net))
    for net, features in _NETS.items()
    for measure, (meaning, function) in _MEASURES.items()
)
