"""The errors Saccade raises: each says what was got, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class SaccadeError(Exception):
    """Base of every error Saccade raises on purpose."""


class ModelError(SaccadeError):
    """The model cannot be made into a plan (torch.export refuses it, or its shapes depend on its data)."""


class InputError(SaccadeError):
    """What was handed to a stream does not fit its plan: shape, dtype, NaN or infinite values."""


class StateError(SaccadeError):
    """A state belongs to another plan, or was made with other settings."""


class PoolError(SaccadeError):
    """Streams of a pool failed in one round; the others' results are here.

    Attributes:
        errors: what each stream that failed raised, by its number.
        results: one entry per stream, None where it failed or skipped the round.
    """

    def __init__(
        self, message: str, errors: Mapping[int, Exception] | None = None, results: Sequence[Any] = ()
    ) -> None:
        super().__init__(message)
        self.errors, self.results = dict(errors or {}), list(results)


class FileFormatError(SaccadeError):
    """A weights, plan, state or preprocess file is missing, damaged, or not of the kind expected."""


class VideoError(SaccadeError):
    """A video source cannot be opened, holds no video, or a video cannot be written."""


class DamagedVideoError(VideoError):
    """Decoding stopped before the end; what came before was delivered."""


class MissingExtraError(SaccadeError):
    """An optional dependency is needed for what was asked and is not installed."""


class RecipeError(SaccadeError):
    """A recipe cannot be found, does not take the options given, or describes a training that cannot be."""


class TrainingError(SaccadeError):
    """Training cannot start or go on: a loss not finite, a checkpoint of another recipe, a bad sample."""


class SceneWarning(UserWarning):
    """A stream's audits show that its error is over what was asked for: the scene is no longer what it was set for."""


class MissingDataWarning(UserWarning):
    """Files that the list of a labelled set names are missing or damaged, and left out."""
