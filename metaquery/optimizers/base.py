"""What every optimizer is: ask, tell, and the checks that keep both honest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import metadata
from typing import Any, ClassVar

from metaquery.errors import InvalidInput, MissingExtra, OptimizerError, UnknownName
from metaquery.space import Config
from metaquery.types import Observation, Suggestion, Task


class Optimizer(ABC):
    """Proposes configs and epochs, learns from validation losses, and never sees anything else.

    The public methods check once; a subclass writes `_ask`, and where it learns or prepares, `_tell` and `_bind`.
    An optimizer is bound to one task and used once. `defaults` names every option with its default value;
    `packages` are the distributions it needs, which the extra `extra` brings and whose versions are stamped.
    """

    name: ClassVar[str]  # the registry key: the module's name
    defaults: ClassVar[Mapping[str, Any]] = {}
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__module__.rpartition(".")[2]

    def __init__(self, seed: int = 0, **options: Any) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise InvalidInput(f"an optimizer's seed must be an integer from 0 to 2^32 - 1, got {seed!r}")
        self.seed = seed
        self.options = dict(self.defaults) | {key: self._check_option(key, value) for key, value in options.items()}
        self.versions = {package: self._version(package) for package in self.packages}
        self._task: Task | None = None
        self._pending: dict[int, Suggestion] = {}
        self._asked = 0
        self._finished = False

    @property
    def task(self) -> Task:
        """The task this optimizer is bound to; OptimizerError before `bind`."""
        if self._task is None:
            raise OptimizerError(f"{self.name} was used before it was bound: call bind(task) first")
        return self._task

    @property
    def finished(self) -> bool:
        """Whether `ask` has nothing to propose any more, whatever is told."""
        return self._finished

    @property
    def stamp(self) -> dict[str, Any]:
        """What identifies this optimizer on every result."""
        return {"name": self.name, "seed": self.seed, "options": self.options, "versions": self.versions}

    def bind(self, task: Task) -> None:
        """Take the task on, once, before the first ask."""
        if self._task is not None:
            raise OptimizerError(f"{self.name} is already bound to a task: make a new optimizer for another one")
        if task.candidates is not None and not task.candidates:
            raise InvalidInput("a task with candidates needs at least one of them, got none")
        self._task = task
        self._bind(task)

    def ask(self) -> Suggestion | None:
        """The next thing to evaluate.

        None means that there is nothing to propose until something running has been told or, when nothing is
        running, ever again: then `finished` is true, and asking once more is an OptimizerError.
        """
        task = self.task
        if self._finished:
            raise OptimizerError(f"{self.name} was asked after it had finished: look at .finished before asking")
        proposal = self._ask(self._asked)
        if proposal is None:
            self._finished = not self._pending
            return None
        config, epoch = proposal
        if not 1 <= epoch <= task.max_epochs:
            raise OptimizerError(f"{self.name} proposed epoch {epoch}: expected 1 to {task.max_epochs}")
        suggestion = Suggestion(config, epoch, self._asked)
        self._pending[self._asked] = suggestion
        self._asked += 1
        return suggestion

    def tell(self, suggestion: Suggestion, observation: Observation) -> None:
        """Learn the outcome of a suggestion, once each and in any order."""
        task = self.task
        if self._pending.get(suggestion.token) != suggestion:
            told = 0 <= suggestion.token < self._asked and suggestion.token not in self._pending
            raise OptimizerError(
                f"{self.name} was told {'twice about' if told else 'about an unknown'} suggestion {suggestion.token}: "
                "tell each suggestion that ask() returned exactly once"
            )
        del self._pending[suggestion.token]
        self._tell(suggestion, observation, observation.value if observation.ok else task.worst_loss)

    @abstractmethod
    def _ask(self, token: int) -> tuple[Config, int] | None:
        """A config and the epoch to train it to, to be known as `token`; None where there is nothing to propose."""

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:  # noqa: B027  (a hook)
        """Learn an outcome; `loss` is its value, or the task's worst loss where it failed."""

    def _bind(self, task: Task) -> None:  # noqa: B027  (a hook)
        """Prepare for `task`."""

    def _check_option(self, key: str, value: Any) -> Any:
        if key not in self.defaults:
            raise UnknownName.of(f"option of {self.name}", key, self.defaults)
        wanted = type(self.defaults[key])
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if type(value) is not wanted:
            raise InvalidInput(f"option {key} of {self.name} must be of type {wanted.__name__}, got {value!r}")
        return value

    def _version(self, package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            raise MissingExtra.of(package, self.extra) from None
