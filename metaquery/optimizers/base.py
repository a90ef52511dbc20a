"""What every optimizer is: ask, tell, and the checks that keep both honest."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar

from metaquery.errors import InvalidInput, MissingExtra, OptimizerError, UnknownName
from metaquery.optimizers.history import History
from metaquery.space import Config
from metaquery.types import Observation, Status, Suggestion, Task, make


@dataclass(slots=True)
class _Told:
    """What was told of a suggestion, or of its `epoch`, which was not the last."""

    token: int
    observation: Observation
    epoch: int | None = None

    def to_json(self) -> dict[str, Any]:
        value, cost, status = self.observation
        shown = {} if self.epoch is None else {"epoch": self.epoch}
        finite = value if math.isfinite(value) else str(value)  # JSON has no NaN
        return {"token": self.token, **shown, "value": finite, "cost_seconds": cost, "status": str(status)}


@dataclass(slots=True)
class _Waits:
    """Asks in a row that nothing was proposed to."""

    n: int

    def to_json(self) -> dict[str, Any]:
        return {"waits": self.n}


class Optimizer(ABC):
    """Proposes configs and epochs, learns from validation losses, and never sees anything else.

    The public methods check once; a subclass writes `_ask`, and where it learns or prepares, `_tell` and `_bind`.
    An optimizer is bound to one task and used once. `defaults` names every option with its default value;
    `packages` are the distributions it needs, which the extra `extra` brings and whose versions are stamped.
    """

    name: ClassVar[str]  # the registry key: the module's name
    needs_history: ClassVar[bool] = False  # whether it is made with the trials of other datasets
    stops: ClassVar[bool] = False  # whether it wants to see every epoch of an evaluation, and may end it there
    deterministic: ClassVar[bool] = False  # whether it asks the same whatever its seed
    defaults: ClassVar[Mapping[str, Any]] = {}
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__module__.rpartition(".")[2]

    def __init__(self, seed: int = 0, *, history: History | None = None, **options: Any) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise InvalidInput(f"an optimizer's seed must be an integer from 0 to 2^32 - 1, got {seed!r}")
        self.seed = seed
        self.options = dict(self.defaults) | {key: self._check_option(key, value) for key, value in options.items()}
        self.versions = self.installed()
        if self.needs_history != (history is not None):
            raise InvalidInput(
                f"{self.name} learns from other datasets: give it history=, made by metaquery.evaluation.history"
                if self.needs_history
                else f"{self.name} does not learn from other datasets: leave history= out"
            )
        self._history = history
        self._task: Task | None = None
        self._pending: dict[int, Suggestion] = {}
        self._events: list[Suggestion | _Told | _Waits] = []  # all that ever went in and came out
        self._asked = 0
        self._finished = False

    @property
    def task(self) -> Task:
        """The task this optimizer is bound to; OptimizerError before `bind`."""
        if self._task is None:
            raise OptimizerError(f"{self.name} was used before it was bound: call bind(task) first")
        return self._task

    @property
    def history(self) -> History:
        """The trials of other datasets; only where `needs_history`."""
        if self._history is None:
            raise OptimizerError(f"{self.name} has no history: declare needs_history = True in its class")
        return self._history

    @property
    def finished(self) -> bool:
        """Whether `ask` has nothing to propose any more, whatever is told."""
        return self._finished

    @property
    def stamp(self) -> dict[str, Any]:
        """What identifies this optimizer on every result."""
        stamp = {"name": self.name, "seed": self.seed, "options": self.options, "versions": self.versions}
        trained = {"history": [item.dataset for item in self.history.training]} if self.needs_history else {}
        return stamp | trained

    def prepare(self) -> None:  # noqa: B027  (a hook)
        """Make now what all seeds share and the user's cache keeps, as meta-training does.

        Before the first study this is done once for each set of training datasets; without it, binding does it.
        """

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
            self._record_wait()
            return None
        config, epoch = proposal
        if not 1 <= epoch <= task.max_epochs:
            raise OptimizerError(f"{self.name} proposed epoch {epoch}: expected 1 to {task.max_epochs}")
        suggestion = make(Suggestion, (config, epoch, self._asked))
        self._pending[self._asked] = suggestion
        self._asked += 1
        self._events.append(suggestion)
        return suggestion

    def tell(self, suggestion: Suggestion, observation: Observation) -> None:
        """Learn the outcome of a suggestion, once each and in any order."""
        task = self.task
        pending = self._pending.get(suggestion.token)
        if pending is not suggestion and pending != suggestion:
            told = 0 <= suggestion.token < self._asked and suggestion.token not in self._pending
            raise OptimizerError(
                f"{self.name} was told {'twice about' if told else 'about an unknown'} suggestion {suggestion.token}: "
                "tell each suggestion that ask() returned exactly once"
            )
        del self._pending[suggestion.token]
        self._events.append(_Told(suggestion.token, observation))
        self._tell(suggestion, observation, observation.value if observation.ok else task.worst_loss)

    def report(self, suggestion: Suggestion, epoch: int, observation: Observation) -> bool:
        """See an epoch of a running evaluation that is not its last; whether the evaluation is to go on.

        Where it is not, the suggestion is told next, with this observation. Called only where `stops`.
        """
        if self._pending.get(suggestion.token) != suggestion:
            raise OptimizerError(
                f"{self.name} was shown an epoch of suggestion {suggestion.token}, which is not running"
            )
        self._events.append(_Told(suggestion.token, observation, epoch))
        return self._watch(suggestion, epoch, observation)

    def state(self) -> dict[str, Any]:
        """All that a new optimizer needs to go on from here, as plain JSON: every ask and tell so far."""
        events = [
            {"config": dict(event.config), "epoch": event.epoch} if isinstance(event, Suggestion) else event.to_json()
            for event in self._events
        ]
        return {"name": self.name, "seed": self.seed, "options": dict(self.options), "events": events}

    def load(self, state: Mapping[str, Any]) -> list[Suggestion]:
        """Go on where `state` was taken; the suggestions that had been asked but not told then.

        To be called on a new optimizer of the same name, seed and options, right after it was bound to the same task.
        The past is asked and told again, and an OptimizerError says where it comes out differently, as it may with
        another version of a package. An optimizer that can restore itself faster overrides both methods.
        """
        if self._events:
            raise OptimizerError(f"{self.name} has already been used: load a state into a new one")
        for key, mine in (("name", self.name), ("seed", self.seed), ("options", self.options)):
            if state.get(key) != mine:
                raise InvalidInput(f"the state is of an optimizer with {key} {state.get(key)!r}, this one has {mine!r}")
        asked: list[Suggestion] = []
        for number, event in enumerate(state["events"]):
            if "token" in event:
                observation = Observation(float(event["value"]), event["cost_seconds"], Status(event["status"]))
                if "epoch" in event:
                    self.report(asked[event["token"]], event["epoch"], observation)
                else:
                    self.tell(asked[event["token"]], observation)
                continue
            for _ in range(event.get("waits", 1)):
                suggestion = self.ask()
                found = None if suggestion is None else {"config": dict(suggestion.config), "epoch": suggestion.epoch}
                if found != (None if "waits" in event else event):
                    raise OptimizerError(
                        f"{self.name} does not repeat the saved state: event {number} was {event}, now it is {found}: "
                        "use the same task, history and package versions as then"
                    )
                if suggestion is not None:
                    asked.append(suggestion)
        return list(self._pending.values())

    def _record_wait(self) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(last, _Waits):
            last.n += 1
        else:
            self._events.append(_Waits(1))

    @abstractmethod
    def _ask(self, token: int) -> tuple[Config, int] | None:
        """A config and the epoch to train it to, to be known as `token`; None where there is nothing to propose."""

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:  # noqa: B027  (a hook)
        """Learn an outcome; `loss` is its value, or the task's worst loss where it failed."""

    def _watch(self, suggestion: Suggestion, epoch: int, observation: Observation) -> bool:  # noqa: ARG002
        """See an epoch of a running evaluation; whether it is to go on."""
        return True

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

    @classmethod
    def installed(cls) -> dict[str, str]:
        """The versions of `packages`; MissingExtra where one of them is not there."""
        return {package: cls._version(package) for package in cls.packages}

    @classmethod
    def _version(cls, package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            raise MissingExtra.of(package, cls.extra) from None
