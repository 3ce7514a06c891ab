"""Checkpoints to go on from, and the weights a finished training leaves."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import FileFormatError, TrainingError
from saccade.graph.tensor_file import read_tensors, write_tensors
from saccade.train.files import replace_file
from saccade.train.recipe import Recipe

CHECKPOINT, WEIGHTS, RECORD = "checkpoint.pt", "weights.safetensors", "record.json"
CHECKPOINT_KIND, WEIGHTS_KIND, VERSION = "saccade checkpoint", "saccade weights", 1


@dataclass(frozen=True, eq=False, repr=False)
class Weights:
    """The weights of a trained network.

    Attributes:
        path: the file they came from.
        state: tensors by name, as `nn.Module.state_dict` gives them, on the CPU.
        recipe: the name of the recipe that trained them.
        options: what that recipe was made with, as JSON values.
        step, steps: optimizer steps done, and in all.
    """

    path: Path
    state: dict[str, Tensor]
    recipe: str
    options: dict[str, Any]
    step: int
    steps: int

    def __repr__(self) -> str:
        return f"Weights({str(self.path)!r}, {len(self.state)} tensors, step {self.step} of {self.steps})"

    def load_into(self, model: nn.Module) -> None:
        """Copies the weights into a network of the same structure.

        Raises:
            FileFormatError: they are another network's; the first differences are named, and the network is unchanged.
        """
        own = model.state_dict()
        wrong = [f"{name} is missing" for name in own if name not in self.state]
        wrong += [f"{name} is not in the network" for name in self.state if name not in own]
        wrong += [
            f"{name} is {tuple(self.state[name].shape)} and in the network {tuple(own[name].shape)}"
            for name in own
            if name in self.state and self.state[name].shape != own[name].shape
        ]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise FileFormatError(
                f"{self.path} holds the weights of another network (recipe {self.recipe!r}, options {self.options}): "
                f"{'; '.join(wrong[:3])}{more}. Build the network they were trained with."
            )
        model.load_state_dict(self.state)


def identity(recipe: Recipe, *, samples: int) -> dict[str, Any]:
    """Returns what must be the same for a training to go on from a checkpoint."""
    return {
        "recipe": recipe.name,
        "options": json.loads(json.dumps(dict(recipe.options), default=str)),
        "seed": recipe.seed,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "samples": samples,
        "precision": recipe.precision,
    }


def write_checkpoint(folder: Path, *, about: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint in `folder`; on any failure the last one stays.

    Raises:
        TrainingError: it cannot be written.
    """
    contents = {"kind": CHECKPOINT_KIND, "version": VERSION, "about": dict(about), **state}
    replace_file(folder / CHECKPOINT, lambda path: torch.save(contents, path))


def read_checkpoint(folder: Path, *, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the state `write_checkpoint` kept, on the CPU; None where there is none.

    Raises:
        FileFormatError: the file is damaged, or no checkpoint.
        TrainingError: it is the checkpoint of another recipe, or of other options.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    found = _load(path)
    differ = [
        f"{name} {found['about'].get(name)!r}, now {value!r}"
        for name, value in about.items()
        if found["about"].get(name) != value
    ]
    if differ:
        raise TrainingError(
            f"{path} is of a training with {'; '.join(differ)}. Train with what it has, into another folder, or from "
            "the beginning (--fresh, which deletes it)."
        )
    return found


def write_weights(folder: Path, model: nn.Module, *, about: Mapping[str, Any], step: int) -> Path:
    """Writes the network's weights as safetensors and returns the file's path.

    Raises:
        TrainingError: the file cannot be written.
    """
    # Tied weights are written once per name: safetensors refuses memory that two names share.
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    header = {"format": WEIGHTS_KIND, "version": str(VERSION), "step": str(step), "about": json.dumps(dict(about))}
    path = folder / WEIGHTS

    def write(partial: Path) -> None:
        write_tensors(tensors, partial, header)
        _sort_header(partial)

    replace_file(path, write)
    return path


def read_weights(path: str | Path) -> Weights:
    """Returns the weights in a training's folder (of its last checkpoint, where it has not finished), or in a file.

    Raises:
        FileFormatError: there are none, or the file is damaged or of another program.
    """
    path = Path(path)
    if path.is_dir():
        inside = [path / name for name in (WEIGHTS, CHECKPOINT) if (path / name).exists()]
        if not inside:
            raise FileFormatError(
                f"{path} holds neither {WEIGHTS} nor {CHECKPOINT}; give the folder that was --out of saccade train"
            )
        path = inside[0]
    if path.suffix == ".pt":
        found = _load(path)
        about, state, step = found["about"], found["model"], found["step"]
    else:
        state, header = read_tensors(path, kind=WEIGHTS_KIND, version=VERSION)
        about, step = json.loads(header["about"]), int(header["step"])
    return Weights(path, state, about["recipe"], about["options"], step, about["steps"])


def _sort_header(path: Path) -> None:
    """Sorts the strings of a safetensors header, which come in any order: the same weights are the same bytes."""
    with path.open("rb+") as file:
        room = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(room))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(room))


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileFormatError(f"there is no file {path}; expected one that saccade train wrote")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(f"{path} is damaged or not a checkpoint ({reason})") from error
    if not isinstance(found, dict) or found.get("kind") != CHECKPOINT_KIND:
        raise FileFormatError(f"{path} is not a checkpoint that saccade train wrote")
    if found["version"] != VERSION:
        raise FileFormatError(
            f"{path} is a checkpoint of version {found['version']}, this Saccade reads version {VERSION}"
        )
    return found
