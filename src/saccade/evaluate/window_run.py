"""A FrameExit over a video or a live stream, window by window: which classes it saw, after how many frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from saccade.evaluate.agreement import Timing
from saccade.evaluate.clip_run import ClipRunReport, ClipSeen, top_classes
from saccade.evaluate.ending import Ending
from saccade.exits import LiveAnswer, LiveExits
from saccade.stream import Engine


def run_windows(
    live: LiveExits,
    source: Iterable[Any],
    *,
    frames: int,
    engine: Engine | None = None,
    names: tuple[str, ...] = (),
    on_frame: Callable[[], None] | None = None,
    model: str = "",
    weights: str = "",
    video: str = "",
) -> ClipRunReport:
    """Runs a FrameExit over a video, window after window.

    A last window that the video ends in looks at those of its frames that came. A damaged video and Ctrl-C end the run,
    not the report: it holds the windows answered until then and says what happened.

    Args:
        live: looks at the windows; their pictures are a multiple of `frames`.
        source: the video's pictures, as `live` takes them.
        frames: T, frames of a window that may be looked at.
        engine: what runs the backbone, where that is not torch.
        names: of the classes; may be empty.
        on_frame: called after every picture.
        model, weights, video: for the report, as of `run_clips`.

    Raises:
        InputError: the pictures do not fit the model.
    """
    answers: list[LiveAnswer] = []
    read, ending = 0, Ending(lambda: read)
    with ending:
        for picture in source:
            answers += live.push(picture)
            read += 1
            if on_frame is not None:
                on_frame()
        answers += live.finish()
    scores = [each.exits.scores[0].double() for each in answers]
    spent = [sum(each.exits.dense_macs for each in answers)]
    spent += [int(sum(getattr(each.exits, kind) for each in answers)) for kind in ("executed_macs", "gate_macs")]
    return ClipRunReport(
        clips=[
            ClipSeen(
                each.first,
                min(each.last, read - 1),
                top_classes(of_one, names),
                visited=list(each.visited),
                answered_at=each.at,
                latency_ms=each.latency_ms,
            )
            for each, of_one in zip(answers, scores, strict=True)
        ],
        classes=top_classes(torch.stack(scores).mean(0), names) if scores else [],
        clip_frames=frames,
        clip_stride=live.window // frames,
        frames=read,
        frames_left=0,
        executor="torch" if engine is None else engine.executor,
        dense_macs=spent[0],
        executed_macs=spent[1],
        gate_macs=spent[2],
        macs_ratio=spent[0] / (spent[1] + spent[2]) if spent[1] + spent[2] else None,
        ms_per_clip=Timing.of([each.ms for each in answers]),
        model=model,
        weights=weights,
        source=video,
        interrupted=ending.interrupted,
        damage=ending.damage,
        precision="float32" if engine is None else engine.precision,
        stream_threads=1 if engine is None else engine.threads,
        isa="" if engine is None else engine.isa,
    )
