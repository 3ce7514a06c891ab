"""The errors Saccade raises: each says what was got, what was expected and what to do."""

from __future__ import annotations


class SaccadeError(Exception):
    """Base of every error Saccade raises on purpose."""


class ModelError(SaccadeError):
    """The model cannot be made into a plan (torch.export refuses it, or its shapes depend on its data)."""


class InputError(SaccadeError):
    """What was handed to a stream does not fit its plan: shape, dtype, NaN or infinite values."""


class StateError(SaccadeError):
    """A state belongs to another plan, or was made with other settings."""


class FileFormatError(SaccadeError):
    """A weights, plan, state or preprocess file is missing, damaged, or not of the kind expected."""


class VideoError(SaccadeError):
    """A video source cannot be opened, holds no video, or a video cannot be written."""


class DamagedVideoError(VideoError):
    """Decoding stopped before the end; what came before was delivered."""


class MissingExtraError(SaccadeError):
    """An optional dependency is needed for what was asked and is not installed."""
