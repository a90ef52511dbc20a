"""What a descriptor is: a name, what it means in one line, and one function of the training part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from corpus_builder.metafeatures.part import TrainingPart


class Undefined(Exception):
    """A descriptor has no value for a training part; the message, a clause, is the reason that users are told."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One descriptor: `function` gives a finite number, or raises Undefined; `meaning` says what it is, in one line."""

    name: str
    meaning: str
    function: Callable[[TrainingPart], float]
