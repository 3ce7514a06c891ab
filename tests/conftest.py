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


@pytest.fixture
def few_clips(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few scenes in place of hundreds, kept for all tests of this run."""
    import recipes.act_clips
    import recipes.film_clips
    import recipes.methods
    import recipes.moving_clips
    import recipes.part_pictures
    import recipes.pose_clips
    import recipes.street_clips

    cache = tmp_path_factory.getbasetemp() / "cache"
    for module in (recipes.pose_clips, recipes.street_clips):
        monkeypatch.setattr(module, "CACHE", cache)
        monkeypatch.setattr(module, "SCENES", {"train": 16, "test": 2})
        monkeypatch.setattr(module, "FRAMES", {"train": 8, "test": 5})
    monkeypatch.setattr(recipes.methods, "EXAMPLES", 1)
    monkeypatch.setattr(recipes.methods, "SHARES", (0.4,))
    monkeypatch.setattr(recipes.act_clips, "CACHE", cache)
    monkeypatch.setattr(recipes.act_clips, "SCENES", {"train": 4, "test": 3})
    monkeypatch.setattr(recipes.moving_clips, "CACHE", cache)
    monkeypatch.setattr(recipes.moving_clips, "CLIPS", {"train": 12, "validation": 4, "test": 7})
    monkeypatch.setattr(recipes.part_pictures, "CACHE", cache)
    monkeypatch.setattr(recipes.part_pictures, "PICTURES", {"train": 16, "test": 5})
    monkeypatch.setattr(recipes.film_clips, "CACHE", cache)
    monkeypatch.setattr(recipes.film_clips, "FRAMES", 4)
    monkeypatch.setattr(recipes.film_clips, "FILMS", {"train": 5, "validation": 4, "test": 12})
