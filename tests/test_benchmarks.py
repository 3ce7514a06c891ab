"""The pieces of the benchmarks that could be wrong without anybody seeing it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from assets import require_asset
from torch import Tensor, nn

import saccade
from benchmarks import networks, real, real_tables, rivals, streams
from benchmarks.motion import MotionDetector, MotionGate, share_run
from benchmarks.readme_table import END, START, rewrite
from saccade.errors import InputError, MissingExtraError

# --- the moving square


@pytest.mark.parametrize("share", [0.05, 0.12, 0.25, 1.0])
@pytest.mark.parametrize("size", [(256, 256), (240, 320), (63, 127), (127, 31), (1, 1)])
def test_a_square_covers_its_share_within_rounding(size: tuple[int, int], share: float) -> None:
    height, width = size
    rows, columns = networks.square_size(height, width, share)
    assert 0 <= rows <= height
    assert 0 <= columns <= width
    assert abs(rows * columns - share * height * width) <= max(rows, columns, 1) / 2 + 1
    assert rows == columns or height in (rows, 1) or width == columns or abs(rows - columns) <= 1


@pytest.mark.parametrize("share", [0.05, 0.12, 0.25])
def test_the_square_moves_inside_the_picture_and_changes_all_of_itself(share: float) -> None:
    shape = (1, 3, 40, 56)
    rows, columns = networks.square_size(40, 56, share)
    ground = next(networks.moving_square(shape, 0.0, seed=4))
    places, before = [], None
    for picture in itertools.islice(networks.moving_square(shape, share, seed=4), 60):
        covered = (picture != ground).any(1)[0]
        ys, xs = torch.nonzero(covered, as_tuple=True)
        box = int(ys.min()), int(ys.max()) + 1, int(xs.min()), int(xs.max()) + 1
        assert (box[1] - box[0], box[3] - box[2]) == (rows, columns)
        assert int(covered.sum()) == rows * columns
        if before is not None:
            assert bool((picture != before).any(1)[0][covered].all())
            assert box[::2] != places[-1]
            assert abs(box[0] - places[-1][0]) <= 3
            assert abs(box[2] - places[-1][1]) <= 5
        places.append(box[::2])
        before = picture
    assert len(set(places)) > 20


def test_nothing_moves_in_a_still_picture_and_everything_changes_in_the_last_case() -> None:
    still = list(itertools.islice(networks.moving_square((1, 1, 9, 7), 0.0), 3))
    assert torch.equal(still[0], still[1])
    assert torch.equal(still[1], still[2])
    new = list(itertools.islice(networks.moving_square((1, 1, 9, 7), 1.0), 3))
    assert bool((new[0] != new[1]).all())
    assert bool((new[1] != new[2]).all())


# --- measuring engines in turn, and the rows made of it


def counted(log: list[tuple[str, float]], name: str, factor: float) -> Any:
    def engine(x: Tensor) -> list[Tensor]:
        log.append((name, float(x.sum())))
        return [x * factor, torch.ones(2)]

    return engine


def test_engines_run_in_turn_on_the_same_frames_and_are_compared_on_all() -> None:
    log: list[tuple[str, float]] = []
    engines = {"ours": counted(log, "ours", 1.01), "theirs": counted(log, "theirs", 1.0)}
    pictures = [torch.full((1, 1, 2, 2), float(2 + index)) for index in range(20)]
    found = networks.measure(engines, iter(pictures), reference="theirs", budget_seconds=0.0, minimum=5, warm_up=2)
    assert {name: len(times) for name, times in found.ms.items()} == {"ours": 5, "theirs": 5}
    assert [name for name, _ in log[:4]] == ["ours", "theirs", "theirs", "ours"]
    sums = [value for _, value in log]
    assert sums[::2] == sums[1::2] == [4.0 * (2 + index) for index in range(7)]
    assert found.differences["ours"] == pytest.approx(0.01, rel=1e-3)
    assert found.differences["theirs"] == 0.0
    assert found.changed == [1.0] * 5
    assert found.moved[-1] == pytest.approx(1 / 8)  # from 7 to 8, of 8


def test_a_single_wrong_frame_and_a_wrong_shape_are_seen() -> None:
    def sometimes(x: Tensor) -> list[Tensor]:
        return [x + (float(x[0]) == 4)]

    frames = (torch.full((1, 1), float(index)) for index in itertools.count(1))
    engines = {"right": lambda x: [x], "sometimes": sometimes, "wrong": lambda x: [x.flatten()]}
    found = networks.measure(engines, frames, reference="right", budget_seconds=0.0)
    assert found.differences == {"right": 0.0, "sometimes": 0.25, "wrong": math.inf}
    assert networks.difference([torch.tensor([math.nan])], [torch.ones(1)]) == math.inf
    assert networks.difference([torch.ones(1)], [torch.zeros(1)]) == math.inf
    assert networks.difference([torch.zeros(1)], [torch.zeros(1)]) == 0.0
    assert networks.difference([torch.ones(1)], [torch.ones(1), torch.ones(1)]) == math.inf


def measured() -> networks.Measured:
    ms = {"saccade float32": [3.0, 1.0, 90.0], "openvino float32": [5.0, 7.0, 6.0], "openvino default": [2.0] * 3}
    noted = [{"float32": 0.5}, {"float32": 0.1}, {"float32": 0.2}]
    differences = {"saccade float32": 2e-7, "openvino float32": 0.0}
    return networks.Measured(ms=ms, differences=differences, changed=[0.1, 0.2], moved=[0.3], noted=noted)


def test_a_row_holds_medians_and_none_where_an_engine_did_not_run() -> None:
    (row,) = networks.rows_of(measured(), dtypes=["float32"], state_bytes={"float32": 12}, network="n", case="still")
    assert row["ms"] == 3.0
    assert row["openvino_ms"] == 6.0
    assert row["openvino_default_ms"] == 2.0
    assert row["onnxruntime_ms"] is None
    assert row["torch_ms"] is None
    assert row["macs_fraction"] == 0.2
    assert row["max_difference"] == 2e-7
    assert (row["network"], row["case"], row["state_bytes"], row["repetitions"]) == ("n", "still", 12, 3)
    assert networks.disagreements([row]) == []
    assert "off by" in networks.disagreements([{**row, "max_difference": math.inf}])[0]
    assert len(networks.disagreements([{**row, "differences": {"torch": 0.01, "openvino": None}}])) == 1


def test_the_reference_executor_does_not_pass_for_another_precision() -> None:
    with pytest.raises(InputError, match="computes in float32"):
        networks.open_stream(None, executor="reference", precision="bfloat16", threads=1)  # type: ignore[arg-type]


# --- the motion detector


def film(*, step: int, noise: int = 0, frames: int = 6) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    for index in range(frames):
        picture = np.full((128, 192, 3), 90, np.uint8)
        picture[40:72, step * index : step * index + 32] = 200
        yield (picture + random.integers(0, noise + 1, picture.shape)).astype(np.uint8)


def test_motion_runs_the_network_and_stillness_and_noise_do_not() -> None:
    detector = MotionDetector()
    assert share_run(detector, film(step=0)) == pytest.approx(1 / 6)
    assert share_run(detector, film(step=0, noise=10)) == pytest.approx(1 / 6)
    assert share_run(detector, film(step=8)) == 1.0
    assert share_run(MotionDetector(share=0.5), film(step=8)) == pytest.approx(1 / 6)


def test_slow_motion_adds_up_since_the_last_run_only() -> None:
    brightening = [np.full((128, 192, 3), 40 + 6 * index, np.uint8) for index in range(7)]
    assert share_run(MotionDetector(), brightening) == pytest.approx(1 / 7)
    assert share_run(MotionDetector(since="run"), brightening) == pytest.approx(3 / 7)  # 40, 58, 76


def test_the_share_of_moved_pixels_is_that_of_the_area() -> None:
    detector = MotionDetector(rows=64)
    before = np.full((128, 192, 3), 90, np.uint8)
    now = before.copy()
    now[:64, :96] = 200
    assert detector.moved(detector.small(now), detector.small(before)) == pytest.approx(0.25, abs=0.01)
    assert detector.small(now).shape == (64, 96)
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 100
    red.flags.writeable = False
    assert float(detector.small(red).mean()) == pytest.approx(29.9, abs=0.01)


def test_the_last_result_is_repeated_while_nothing_moves() -> None:
    gate, results = MotionGate(MotionDetector()), iter(range(9))
    still, moved = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 99, np.uint8)
    assert [gate(frame, lambda: next(results)) for frame in (still, still, moved, moved)] == [0, 0, 1, 1]
    assert (gate.runs, gate.frames, gate.share) == (2, 4, 0.5)


# --- real clips


def test_psnr_is_of_peak_one_and_for_pictures_of_one_channel_only() -> None:
    picture = torch.rand(1, 1, 5, 7)
    assert real.compare([picture + 0.1], [picture], [1])["psnr_db"] == pytest.approx(20.0, abs=1e-3)
    assert real.compare([picture], [picture], [1])["psnr_db"] is None
    assert real.compare([torch.ones(1, 2, 5, 7)], [torch.zeros(1, 2, 5, 7)], [1])["psnr_db"] is None


def test_a_course_gives_median_mean_and_macs_ratio() -> None:
    course = real.Course()
    for ms, error in ((1.0, 0.1), (2.0, None), (9.0, 0.3)):
        course.add(ms, {"error": error}, saccade.Cost(100, 10, 10, 0.0))
    summary = course.summary()
    assert (summary["ms"], summary["mean_ms"], course.macs_ratio) == (2.0, 4.0, 5.0)
    assert summary["error"] == {"mean": pytest.approx(0.2), "first_tenth": 0.1, "last_tenth": 0.3}
    assert real.Course().macs_ratio is None


def test_a_clip_gives_rows_for_streams_dense_engine_motion_detector_and_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    path = require_asset("models/rfb640.pt2")

    def dense(self: real.Options, name: str, precision: Any = None) -> Any:
        engine = rivals.Torch(real.load_program(path)[0])
        engine.name = f"openvino {precision or self.precision}"
        return engine

    monkeypatch.setattr(real.Options, "dense", dense)
    options = real.Options(executor="reference")
    *settings, whole, motion, floor = real.run("rfb640", "car-detection.mp4", 3, options)
    assert [row["macs_ratio"] > 0.9 for row in settings] == [True] * 4
    assert settings[0]["equals_full_pass"] is True
    assert whole["relative_error"]["mean"] < 1e-5
    assert whole["ms"] == whole["dense_ms"] >= whole["decode_ms"] > 0
    assert motion["motion_share"] in (0.0, 0.5, 1.0)
    assert motion["mean_ms"] == motion["motion_ms"]
    assert motion["relative_error"]["mean"] <= 2 * floor["relative_error"]["mean"]
    spans = real.run_span("rfb640", "car-detection.mp4", 100, 102, options, (0.1,))
    assert [row.get("tolerance") for row in spans] == [0.1, None, None]
    assert spans[0]["macs_ratio"] > 0.9
    assert {row["openvino_ms"] for row in spans} == {spans[1]["ms"]}
    where = {"machine": "m", "threads": 1, "torch": "t", "commit": "c", "isa": "avx2"}
    result = {"environment": where, "minutes": 1, "rows": [*settings, whole, motion, floor], "spans": spans}
    page = real_tables.markdown(result | {"executor": "native", "precision": "float32", "record": "reference"})
    assert "native executor (avx2)" in page
    assert "| motion detector (" in page
    assert "| dense (openvino float32) | - |" in page
    assert "| 100-102 | tolerance 0.1 |" in page
    widths = [line.count("|") for line in page.splitlines() if line.startswith("|")]
    assert widths == [13] * 9 + [10] * 5


def test_the_page_of_an_older_result_has_no_times() -> None:
    part = {"mean": 0.5, "first_tenth": None, "last_tenth": 0.25}
    row = {"network": "n", "clip": "c", "frames": 2, "tolerance": 0.1, "macs_ratio": 2.0, "state_bytes": 1}
    row |= {"relative_error": part, "argmax_agreement": part, "psnr_db": {"mean": None}}
    where = {"machine": "m", "threads": 2, "torch": "t", "commit": "c"}
    page = real_tables.markdown({"environment": where, "minutes": 1, "rows": [row]})
    assert "| c | 2 | tolerance 0.1 | 2.00 | - | - | 5.00e-01 | - | 2.50e-01 | 0.50000 | - | 0.25000 |" in page


# --- rivals


class Small(nn.Module):
    """Two outputs of different shapes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = torch.relu(self.conv(x))
        return {"map": y, "mean": y.mean((2, 3))}


@pytest.mark.slow  # in a process of its own: OpenVINO takes over SIGINT, and then the tests of Ctrl-C crash
def test_every_rival_computes_the_network(tmp_path: Path) -> None:
    for module in ("openvino", "onnxruntime", "onnxscript"):
        pytest.importorskip(module)
    model, x = Small().eval(), torch.rand(1, 3, 9, 13)
    path = rivals.onnx_file("small", model, x, folder=tmp_path)
    with torch.no_grad():
        wanted = list(model(x).values())
    engines: list[Any] = [rivals.OpenVino(path), rivals.OnnxRuntime(path), rivals.Torch(model)]
    engines += [rivals.OpenVino(path, precision="bfloat16"), rivals.OpenVino(path, precision=None)]
    engines += [rivals.Torch(model, precision="bfloat16"), rivals.OpenVinoThroughput(path)]
    engines[-1].run([x, x])
    for engine in engines:
        got = engine(x)
        assert all(output.dtype == torch.float32 for output in got)
        near = 1e-5 if "float32" in engine.name.split() else 0.03
        assert networks.difference(got, wanted) < near, engine.name
    assert len({engine.name for engine in engines}) == len(engines)
    assert model.conv.weight.dtype == torch.float32  # the network itself was left alone
    written = path.stat().st_mtime_ns
    assert rivals.onnx_file("small", model, x, folder=tmp_path) == path
    assert path.stat().st_mtime_ns == written
    with torch.no_grad():
        model.conv.bias += 1
    assert rivals.onnx_file("small", model, x, folder=tmp_path) != path


def test_a_missing_engine_says_what_to_install() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[bench\]'"):
        rivals.import_bench("an_engine_nobody_has")


# --- streams


def test_every_stream_sees_its_own_square_and_it_never_jumps() -> None:
    shape = (1, 1, 48, 64)
    shown = list(itertools.islice(streams.ticks(shape, 2), 3 * streams.PICTURES))
    area = math.prod(networks.square_size(48, 64, streams.SHARE))
    for before, now in itertools.pairwise(shown):
        for a, b in zip(before, now, strict=True):
            assert area <= int((a != b).sum()) < 2 * area
    assert not any(torch.equal(*tick) for tick in shown)


class Pool:
    """Stands in for `saccade.StreamPool`."""

    def __init__(self, plan: saccade.Plan, *, streams: int, threads: int, **options: Any) -> None:
        self.streams = [saccade.Stream(plan, **options) for _ in range(streams)]

    def __call__(self, frames: list[Tensor]) -> list[Any]:
        return [stream(frame) for stream, frame in zip(self.streams, frames, strict=True)]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None: ...


class Throughput:
    """Stands in for the rival."""

    def __init__(self, model: nn.Module, **_: Any) -> None:
        self.model = rivals.Torch(model)

    def run(self, frames: Iterator[Tensor]) -> None:
        assert sum(1 for _ in frames) > 0

    def __call__(self, x: Tensor) -> list[Tensor]:
        return self.model(x)


def test_streams_are_measured_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Small().eval()
    monkeypatch.setattr(saccade, "StreamPool", Pool, raising=False)
    monkeypatch.setattr(streams, "OpenVinoThroughput", Throughput)
    monkeypatch.setattr(streams, "load", lambda name: (model, torch.zeros(1, 3, 16, 16), model))
    rows = streams.run(
        "small", streams=[1, 2], threads=[1, 2], dtype="float32", executor="reference", budget_seconds=0.01
    )
    assert [(row["streams"], row["threads"]) for row in rows] == [(1, 1), (2, 1), (1, 2), (2, 2)]
    assert all(row["max_difference"] < 1e-5 for row in rows)
    assert rows[1]["state_bytes"] == 2 * rows[0]["state_bytes"] > 0
    assert rows[0]["weights_bytes"] == rows[1]["weights_bytes"] == 4 * (8 * 3 * 9 + 8)
    assert all(0 < row["macs_fraction"] < 1 for row in rows)
    fps = {(row["streams"], row["threads"]): row["fps"] for row in rows}
    assert streams.two_streams_ratios(rows) == {"small": fps[2, 2] / fps[1, 1]}
    assert streams.two_streams_ratios(rows[:3]) == {}


def test_a_rate_counts_the_frames_of_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(streams.time, "perf_counter", lambda: next(clock))
    assert streams.rate(lambda round_: None, [[torch.zeros(1)] * 3] * 4) == 6.0


# --- README's tables


def test_readme_tables_are_rewritten_between_the_marks_only() -> None:
    rows = networks.rows_of(
        measured(), dtypes=["float32"], state_bytes={"float32": 1}, network="n", threads=1, case="still"
    )
    rows.append({**rows[0], "case": "all", "ms": 123.4, "openvino_ms": 8.0})
    layers = [{"dtype": "float32", "density": 0.1, "realised": value} for value in (0.9, 0.5, 0.8)]
    layers += [{"dtype": "float32", "density": 0.2, "realised": None}, {"dtype": "bfloat16", "density": 0.3}]
    layers += [{"dtype": "bfloat16", "density": 0.0501, "reduction": 20.0, "realised": value} for value in (0.25, 0.35)]
    pool = {"network": "n", "streams": 2, "threads": 1, "fps": 10.04, "openvino_fps": None, "state_bytes": 2_600_000}
    cut = {"network": "n", "dtype": "float32", "macs_ratio": 4.301, "ms": 69.05, "openvino_ms": 245.4}
    results = {
        "reduced": {"rows": [{**cut, "speed_up": 3.554, "paper_speed_up": 1.9}]},
        "networks": {"environment": {"machine": "m", "isa": "avx2"}, "rows": rows},
        "kernels": {"rows": layers, "table2": {}},
        "streams": {"rows": [pool], "two_streams_ratio": {"n": 1.956}},
    }
    text = f"# Title\n\n{START}\nold\n{END}\n\nmore\n"
    new = rewrite(text, results)
    assert new.startswith("# Title\n\n" + START)
    assert new.endswith(END + "\n\nmore\n")
    assert "old" not in new
    assert "| n | float32 | 3.0 | - | - | - | 123 | 7.0 | 2.0 | - | - |" in new
    assert "1 thread; m, avx2" in new
    assert "|  | macs / 10 | macs / 20 |" in new
    assert "| float32 | 0.80 (0.50) | - |" in new
    assert "| bfloat16 | - | 0.30 (0.25) |" in new
    assert "| n | 2 | 1 | 10.0 | - | 3 | - |" in new
    assert "n 1.96 times" in new
    assert "| n | float32 | 4.30 | 69.0 | 245 | 3.55 | 1.9 |" in new
    assert rewrite(new, results) == new
    assert rewrite(text, {"networks": None}) == f"# Title\n\n{START}\n\n{END}\n\nmore\n"


@pytest.mark.parametrize("text", ["nothing", f"{END}\n{START}", f"{START}\n{START}\n{END}"])
def test_readme_without_its_marks_is_left_alone(text: str) -> None:
    with pytest.raises(ValueError, match="expected one"):
        rewrite(text, {})
