"""`Stream`: a model that follows one video and recomputes only what changed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram

from saccade.cost import Cost, StepCost
from saccade.errors import InputError, SceneWarning, StateError
from saccade.graph import Plan, make_plan
from saccade.preprocess import Preprocess
from saccade.stream.arguments import Arguments
from saccade.stream.audit import Audit, Auditor, AuditReport, settle_audit
from saccade.stream.calibration import Calibration
from saccade.stream.camera import STAYS, Camera
from saccade.stream.executors import Executed, choose_executor
from saccade.stream.gate import Gate, GateSettings
from saccade.stream.native import NativeExecutor
from saccade.stream.passes import Pass
from saccade.stream.patience import Patience
from saccade.stream.picture_source import PictureSource
from saccade.stream.record import default_record
from saccade.stream.state import StreamState

CAMERAS = ("still", "moving")


class Stream(Executed):
    """Follows one video with a model.

    Where every position changes, frame after frame, following costs time and gains nothing: then frames are computed
    whole, and one in so many is followed to see whether that has changed.

    Args:
        model: a module, an exported program, the path of a `.pt2` file, or a plan (shared by many streams).
        example: what the model takes for one frame: a tensor, a tuple of arguments, or a video frame (a `Frame` or
            a uint8 (H, W, 3) array), which `preprocess` turns into a tensor: by default RGB in 0..1 at the frame's
            own size. Not needed for a plan or a program with its own example.
        threshold: absolute threshold of every step, or a `Gate` (or number) per value name. 0 is exact.
        tolerance: relative instead: threshold of a step = tolerance x RMS of its output on the first frame.
            Give one of the two; with neither the stream is exact.
        calibration: gates found on footage of the scene (`saccade calibrate`), or the file they are in; in place of
            the two.
        reference_every: every so many frames one is a reference frame, computed whole as the first is; by default only
            the first. For gated convolutions in the residual form, whose results drift (Skip-Convolutions).
        executor: "native", the compiled engine; "reference", the definition in torch, which computes everything and
            saves no time; by default the native one where it was built and the plan fits it.
        precision: "float32", or "bfloat16" (native only): values and weights are stored in bfloat16.
        threads: how many share the work of one frame (native only). For several streams, one thread each in a
            `StreamPool` is faster.
        profile: measure the time of every step, see `step_seconds` (native only).
        record: how announcements are remembered: "reference" (a copy), "coarse" (a copy in bfloat16) or "accumulated"
            (one number per position); by default the calibration's, "coarse" from a tolerance of 0.01 on, else
            "reference".
        audit_every: audit the stream's error, one frame in so many; short for `audit=Audit(every=...)`, and with
            `audit` in place of its `every`. See `Audit`.
        audit: how the error is audited; by default it is not. Without a tolerance of its own it has the calibration's,
            where that is of the relative error or of argmax.
        preprocess: how a video frame becomes the model's input; the plan's own by default.
        camera: "still", or "moving": where the camera moved by whole pixels of the input and that leaves less to
            compute, the history moves along (docs/camera.md). Tried rarely where it does not pay.
        state: a state of the same plan to go on from; a fresh one by default.

    Raises:
        ModelError, FileFormatError: as `make_plan`.
        InputError: a threshold or tolerance below 0, or more than one of these and a calibration; a reference_every
            below 1; an audit that makes no sense; an unknown executor, precision, record or camera, or an executor that
            is not there or cannot run this plan.
        StateError: the state or the calibration belongs to another plan, or the state holds values in another
            precision.
    """

    def __init__(
        self,
        model: nn.Module | ExportedProgram | Plan | str | Path,
        example: Any = None,
        *,
        threshold: float | Mapping[str, Gate | float] | None = None,
        tolerance: float | None = None,
        calibration: Calibration | str | Path | None = None,
        reference_every: int | None = None,
        executor: str | None = None,
        precision: str = "float32",
        threads: int = 1,
        profile: bool = False,
        record: str | None = None,
        audit_every: int | None = None,
        audit: Audit | None = None,
        preprocess: Preprocess | None = None,
        camera: str = "still",
        state: StreamState | None = None,
    ) -> None:
        if calibration is not None and (threshold is not None or tolerance is not None):
            raise InputError("got a calibration beside a threshold or tolerance; give one of them")
        if isinstance(calibration, (str, Path)):
            calibration = Calibration.load(calibration)
        self.calibration = calibration
        given = threshold if calibration is None else calibration.gates
        self.settings = GateSettings(given, tolerance, reference_every)
        audit = settle_audit(audit_every, audit, calibration)
        if example is not None and not isinstance(example, (Tensor, tuple, list)):
            preprocess = preprocess or Preprocess()
            example = preprocess(example)
        self.plan = make_plan(model, example, preprocess=preprocess)
        self.preprocess = preprocess or self.plan.preprocess
        if calibration is not None:
            calibration.check(self.plan)
        self._check_names(threshold)
        if state is not None and state.plan is not self.plan and state.plan.digest != self.plan.digest:
            raise StateError(
                f"the state belongs to another plan ({state.plan.name}, {state.frames} frames); this stream runs "
                f"{self.plan.name}. Give it a state of its own plan, or none."
            )
        self._executor = choose_executor(self.plan, executor, precision=precision, threads=threads, profile=profile)
        if state is not None and state.precision != self.precision:
            raise StateError(
                f"the state holds values in {state.precision}, this stream keeps {self.precision}; open the stream "
                f"with precision={state.precision!r}"
            )
        if record is None:
            record = default_record(tolerance) if calibration is None else calibration.record
        self.state = state if state is not None else self._fresh_state(record)
        if camera not in CAMERAS:
            raise InputError(f"unknown camera {camera!r}; expected one of {', '.join(CAMERAS)}")
        self.camera = camera
        self._camera = Camera(self.plan) if camera == "moving" else None
        self._pictures = PictureSource(self.plan)
        self._arguments = Arguments(self.plan)
        self._auditor = None if audit is None else Auditor(self.plan, audit)
        self._patience = Patience(self.plan)
        self._last: Pass | None = None
        self._cost = Cost(self.plan.dense_macs, 0, 0, 0.0)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the model would give for this frame, but for changes no gate announced, in its own structure.

        Takes what the model takes, or one video frame (a `Frame` or a uint8 (H, W, 3) array). Of a frame that was
        audited it returns what the stream holds after the audit: fresh in what was audited, elsewhere as it would have
        been or fresher. So a still scene shows the same in the next frame.

        Raises:
            InputError: shape, type or structure differ from the plan's, or a value is NaN or infinite. The state is
                then unchanged and the stream can go on with the next frame.

        Warns:
            SceneWarning: audits show an error over their tolerance.
        """
        started = time.perf_counter()
        with self._given(args, kwargs, self._pictures, self.state) as (run, seen):
            self._last = self._followed(run, seen)
        ms = (time.perf_counter() - started) * 1e3
        total = self._last.total
        watching = self._camera.macs if self._camera else 0
        self._cost = Cost(total.dense_macs, total.executed_macs, total.gate_macs + watching, ms)
        if self._auditor is not None and (news := self._auditor.take_news()):
            warnings.warn(news, SceneWarning, stacklevel=2)
        return self.plan.structured(self._last.outputs)

    def full_pass(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the same executor gives for this frame alone, every position computed; no state changes."""
        state = self._fresh_state("accumulated")
        with self._given(args, kwargs, PictureSource(self.plan), state) as (run, _):
            done = run(state, settings=GateSettings())
        return self.plan.structured(done.outputs)

    def reset(self) -> None:
        """Forgets the video so far, audits included; the next frame is computed whole."""
        self.state.reset()
        self._patience.reset()
        if self._auditor is not None:
            self._auditor.reset()

    @property
    def profile(self) -> bool:
        """Whether the time of every step is measured."""
        return self._executor.profile

    @property
    def frames(self) -> int:
        """Frames followed since the start or the last reset."""
        return self.state.frames

    @property
    def cost(self) -> Cost:
        """What the last frame cost."""
        return self._cost

    @property
    def audit(self) -> AuditReport | None:
        """What audits of the error have found so far; None where none were asked for."""
        return None if self._auditor is None else self._auditor.report()

    @property
    def step_costs(self) -> tuple[StepCost, ...]:
        """What the last frame cost, step by step; empty before the first."""
        return self._last.costs() if self._last else ()

    @property
    def step_seconds(self) -> tuple[float, ...]:
        """Time of every step of the last frame, in the plan's order; empty before the first, or without `profile`."""
        return self._last.seconds() if self._last else ()

    @property
    def camera_shift(self) -> tuple[int, int]:
        """How far the history moved before the last frame, (down, right) in pixels of the input: the frame at p was
        compared with the one before at p + (down, right). (0, 0) where it did not move."""
        return self._camera.shift if self._camera else (0, 0)

    @property
    def active(self) -> Mapping[str, Tensor]:
        """By step name, the mask of positions computed in the last frame; empty before the first."""
        return self._last.active() if self._last else {}

    def _fresh_state(self, record: str) -> StreamState:
        return StreamState(self.plan, record=record, precision=self.precision)

    def _check_names(self, threshold: Any) -> None:
        if isinstance(threshold, Mapping):
            unknown = sorted(set(threshold) - set(self.plan.values))
            if unknown:
                raise InputError(
                    f"thresholds are given for {', '.join(unknown[:5])}, which the plan of {self.plan.name} does not "
                    "have; the names are those of its values, as `print(plan)` lists them"
                )

    def _followed(self, run: partial[Pass], seen: Tensor) -> Pass:
        """Returns the pass over the next frame: moved along with the camera, and audited, where that is asked for."""
        auditor, camera = self._auditor, self._camera
        settings = self.settings if auditor is None else auditor.settings(self.settings)
        settings = self._patience.settings(settings, self.state.gates)
        whole = settings.is_reference(self.state.frames)
        shift = STAYS if camera is None else camera.look(self.state, seen, settings)
        done = run(self.state, settings=settings, forced=shift.forced, moves=shift.moves)
        self._patience.learn(done.total, whole=whole)
        if camera is not None:
            camera.learn(done.total)
        if auditor is None:
            return done

        def again(forced: Mapping[str, Tensor]) -> Pass:
            # It is no other frame of the video: no reference frame, and not counted.
            audited = run(self.state, settings=replace(settings, reference_every=None), forced=forced)
            self.state.frames -= 1
            return audited

        return auditor.follow(done, again, whole=whole)

    @contextmanager
    def _given(
        self, args: Any, kwargs: Any, pictures: PictureSource, state: StreamState
    ) -> Iterator[tuple[partial[Pass], Tensor]]:
        """Gives what runs the executor over what the caller gave, a video frame or the model's own arguments, and the
        first input as a tensor."""
        if len(args) == 1 and not kwargs and not isinstance(args[0], (Tensor, tuple, list, dict)):
            if self.preprocess is None:
                raise InputError(
                    f"got a video frame ({type(args[0]).__name__}) but this stream does not know how it becomes the "
                    "model's input; pass preprocess=Preprocess(...), or a tensor"
                )
            if isinstance(self._executor, NativeExecutor) and pictures.fits(self.preprocess, args[0]):
                with pictures.next(self.preprocess, args[0], state) as picture:
                    seen = picture.rows.permute(2, 0, 1)[None]
                    yield partial(self._executor.run, inputs=[], picture=picture), seen
                return
            args = (self.preprocess(args[0]),)
        pictures.forget()
        inputs = self._inputs(args, kwargs)
        yield partial(self._executor.run, inputs=inputs), inputs[0]

    def _inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
        given = zip(self.plan.inputs, self._arguments.flat(args, kwargs, what="stream"), strict=True)
        return [
            self._arguments.checked(
                name,
                tensor,
                where=f"input {name!r} of frame {self.state.frames}",
                size_hint="reset and make a new stream, or resize the frame, when the source changes its size",
                batch_hint="the plan was made for a batch of %s: use one stream per video",
            )
            for name, tensor in given
        ]

    def __repr__(self) -> str:
        return f"Stream({self.plan.name}, executor={self.executor!r}, frames={self.frames})"
