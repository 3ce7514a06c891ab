"""Settings of every test process."""

import math
import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from saccade.kernels import cpu
from saccade.stream import patience

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with Ctrl-C ignored
torch.set_num_threads(1)  # two pools of threads on two cores spin each other to death
settings.register_profile("saccade", deadline=None)  # no test asserts a time
settings.load_profile("saccade")


@pytest.fixture(scope="session", autouse=True)
def _every_frame_is_followed() -> Iterator[None]:
    """Laws are about frames that are followed, small ones of which often change everywhere; test_patience has rests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience, "VAIN", math.inf)
        yield


@pytest.fixture(
    params=[
        "reference",
        pytest.param("native", marks=pytest.mark.skipif(not cpu.native_module(), reason="there is no native engine")),
    ]
)
def executor(request: pytest.FixtureRequest) -> str:
    """Every executor there is here, one after the other."""
    name: str = request.param
    return name
