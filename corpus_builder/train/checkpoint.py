"""Where a trial stopped, so that it can go on as if it never had: its result so far and all that training changes."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from corpus_builder.files import replace_file
from corpus_builder.recipe import AveragedModel, Schedule, Stream
from corpus_builder.train.records import TrialResult
from metaquery.errors import InvalidInput
from metaquery.types import Status


@dataclass(frozen=True, slots=True)
class Moving:
    """What changes while a trial is trained; everything else follows from its spec."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    averaged: AveragedModel[Any]
    schedule: Schedule
    draws: Stream
    device: torch.device

    def state(self) -> dict[str, Any]:
        """The state now, of tensors and plain values; tensors are those of the model, not copies."""
        on_gpu = self.device.type == "cuda"
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged.state(),
            "schedule": self.schedule.state(),
            "draws": self.draws.state(),
            "generators": [torch.get_rng_state(), *([torch.cuda.get_rng_state(self.device)] if on_gpu else [])],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go back to `state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaged.load(state["averaged"])
        self.schedule.load(state["schedule"])
        self.draws.load(state["draws"])
        cpu, *gpu = state["generators"]
        torch.set_rng_state(cpu.cpu())
        if gpu:
            torch.cuda.set_rng_state(gpu[0].cpu(), self.device)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The result of a trial as far as it got and, where it can go on, the state to go on from."""

    result: TrialResult
    state: dict[str, Any] | None

    def save(self, path: Path) -> None:
        """Write it to `path`, whole or not at all."""
        result = {field.name: getattr(self.result, field.name) for field in fields(TrialResult)}
        result["status"] = str(self.result.status)
        result["predictions"] = {
            epoch: {split: torch.from_numpy(p) for split, p in parts.items()}
            for epoch, parts in self.result.predictions.items()
        }
        with replace_file(path) as partial:
            torch.save({"result": result, "state": self.state}, partial)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read the checkpoint at `path`, tensors and plain values alone; InvalidInput where it is none."""
        try:
            if not zipfile.is_zipfile(path):
                raise ValueError("it is no archive")
            document = torch.load(path, map_location="cpu", weights_only=True)
            result = document["result"]
            result["status"] = Status(result["status"])
            result["predictions"] = {
                epoch: {split: p.numpy() for split, p in parts.items()}
                for epoch, parts in result["predictions"].items()
            }
            return cls(TrialResult(**result), document["state"])
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InvalidInput(f"{path} is not a checkpoint of a trial ({reason}): remove it, to train anew") from None
