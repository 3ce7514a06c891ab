"""How a run over a video ends: what is told in its report, and what is raised."""

from __future__ import annotations

import pytest

from saccade.errors import DamagedVideoError, InputError, VideoError
from saccade.evaluate.ending import Ending


@pytest.mark.parametrize(
    ("error", "read", "told"),
    [
        (None, 5, (False, None)),
        (KeyboardInterrupt(), 0, (True, None)),
        (KeyboardInterrupt(), 5, (True, None)),
        (DamagedVideoError("torn"), 0, (False, "torn")),
        (VideoError("gone"), 5, (False, "gone")),
        (VideoError("gone"), 0, None),
        (InputError("odd"), 5, None),
        (SystemExit(3), 5, None),
    ],
)
def test_what_ends_a_run_is_told_or_raised(
    error: BaseException | None, read: int, told: tuple[bool, str | None] | None
) -> None:
    ending, raised = Ending(lambda: read), None
    try:
        with ending:
            if error is not None:
                raise error
    except BaseException as found:
        raised = found
    assert raised is (error if told is None else None)
    assert (ending.interrupted, ending.damage) == (told or (False, None))
