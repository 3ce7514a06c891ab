"""benchmarks.classify: the pipelines agree with one another, decode what they say, and figures mean what they say."""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path

import pytest
import torch

from benchmarks import classify, classify_collections, classify_tables
from benchmarks.classify import Case, Course, measure, run, wanted_answers
from benchmarks.classify_collections import Collection, key_frames, outputs_of, random_network, regroup, set_gates
from benchmarks.classify_pipelines import PIPELINES, Answer, Network, Pipeline, Settings, ahead, make_network
from recipes.film_clips import write_films
from saccade.errors import InputError
from saccade.exits import FixedBudget, LearnedGate, Outputs, classify_video, decide
from saccade.preprocess import Preprocess
from saccade.video import VideoFrames, read_video
from saccade.zoo.frame_exit import frame_exit

FILMS, PICTURES, EVERY = 4, 40, 8  # the first films are short ones


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_films(tmp_path_factory.mktemp("films"), "test", films=FILMS)


@pytest.fixture(scope="module")
def grouped(films: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The films with a key frame every eight pictures."""
    folder = tmp_path_factory.mktemp("grouped")
    for path in films:
        regroup(path, folder / path.name, EVERY)
    return [folder / path.name for path in films]


@pytest.fixture(scope="module")
def network(films: list[Path]) -> Network:
    return random_network("tiny", 32, films, classes=12, hidden=16)


def decoded_by(path: Path, network: Network, count: int) -> int:
    """Returns what the first frames of a video cost, asked for one by one in the order of visits."""
    with VideoFrames(path, cache=False) as frames:
        places = network.model.positions(len(frames))
        for t in range(count):
            frames.expect(places[t:])
            frames[places[t]]
        return frames.cost.frames_decoded


def test_a_key_frame_comes_as_often_as_it_should_and_pictures_stay(films: list[Path], grouped: list[Path]) -> None:
    for before, after in zip(films, grouped, strict=True):
        with VideoFrames(after, cache=False) as frames:
            assert frames.keyframes == list(range(0, PICTURES, EVERY))
            assert frames.fps == pytest.approx(12.5)
        for a, b in zip(read_video(before), read_video(after), strict=True):
            assert abs(a.data.astype(int) - b.data.astype(int)).mean() < 4
            assert a.pts_seconds == pytest.approx(b.pts_seconds)
    assert key_frames(grouped) == (PICTURES // EVERY,) * FILMS


def test_pipelines_agree_and_decode_what_their_frames_lean_on(grouped: list[Path], network: Network) -> None:
    wanted = wanted_answers(network, grouped, Settings())
    exits = {path: wanted["rule"][path].frames for path in grouped}
    assert len(set(exits.values())) > 1
    for workers in (1, 2):
        settings = Settings(workers=workers, batch=3, ahead=2)
        found = {name: pipeline.run(network, grouped, settings) for name, pipeline in PIPELINES.items()}
        for name, answers in found.items():
            assert sorted(answers) == sorted(grouped)
            right = wanted.get(PIPELINES[name].says)
            for path, answer in answers.items():
                assert answer.reading_ms > 0
                if right is not None:
                    assert (answer.label, answer.frames, answer.macs) == (
                        right[path].label,
                        right[path].frames,
                        right[path].macs,
                    ), name
                    torch.testing.assert_close(answer.scores, right[path].scores, rtol=1e-4, atol=1e-6)
        for path in grouped:
            for name in ("batched", "one-by-one", "batch-1"):
                assert found[name][path].decoded == decoded_by(path, network, exits[path]), name
            whole = decoded_by(path, network, 10)
            assert found["all-frames"][path].decoded == whole
            once = PICTURES + PICTURES // EVERY  # and some key frame twice
            assert found["fixed-seeking"][path].decoded <= min(whole, once)
            assert found["fixed-full"][path].decoded == PICTURES
            visited = network.model.positions(PICTURES)[: found["keyframe"][path].frames]
            nearest = {min(range(0, PICTURES, EVERY), key=lambda key: abs(key - place)) for place in visited}
            assert found["keyframe"][path].decoded == len(nearest)
            assert found["fixed-full"][path].macs == found["all-frames"][path].macs == network.macs.dense
        assert all(found["batched"][path].macs < network.macs.dense for path in grouped if exits[path] < 9)


def test_what_they_must_answer_is_what_one_video_by_itself_gives(films: list[Path], network: Network) -> None:
    wanted = wanted_answers(network, films, Settings())
    for path in films:
        pictures = [frame.data for frame in read_video(path)]
        frames = [network.preprocess(pictures[place])[0] for place in network.model.positions(PICTURES)]
        for says, rule in {"rule": LearnedGate(), "all": FixedBudget(10)}.items():
            alone = classify_video(network.model, frames, rule, macs=network.macs)
            assert int(alone.frames) == wanted[says][path].frames
            torch.testing.assert_close(alone.scores[0], wanted[says][path].scores, rtol=1e-4, atol=1e-6)


def test_rows_are_there_for_every_pipeline_and_number_of_workers(
    films: list[Path], grouped: list[Path], network: Network
) -> None:
    case = Case(Collection("films", films, (0, 0, 0, 0), (1, 1, 1, 1)), network, 3, 2)
    rows, goals = run(case, Settings(batch=2), [1, 2])
    names = [name for name in PIPELINES if name != "keyframe"]
    assert [(row["pipeline"], row["workers"]) for row in rows] == [(name, count) for count in (1, 2) for name in names]
    assert all(row["videos"] == FILMS and row["different"] == 0 for row in rows)
    assert all(0 < row["slowest"] <= row["videos_per_s"] * 1.000001 for row in rows)
    assert all(row["videos_per_s"] <= row["fastest"] * 1.000001 and row["top1"] is None for row in rows)
    assert [goal["workers"] for goal in goals] == [1, 2]
    assert goals[0]["cut_frames"] == 10 / rows[0]["frames"]
    assert goals[0]["keyframe"] is None
    case = Case(Collection("films-8", grouped, (0, 0, 0, 0), key_frames(grouped)), network, FILMS, 1)
    rows, (goal,) = run(case, Settings(batch=2), [1])
    assert [row["pipeline"] for row in rows] == list(PIPELINES)
    assert rows[list(PIPELINES).index("keyframe")]["different"] is None
    assert 0 <= goal["keyframe"]["same_labels"] <= 1
    assert goal["key_frames"] == {"least": 5, "mean": 5, "most": 5}


def test_a_wrong_answer_is_told_for_every_video_that_has_one(
    films: list[Path], network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = 0

    def wrong(network: Network, paths: list[Path], settings: Settings) -> dict[Path, Answer]:
        nonlocal passes
        passes += 1
        answers = PIPELINES["fixed-full"].run(network, paths, settings)
        if passes == 3 and films[2] in answers:  # the first pass warms up
            right = answers[films[2]]
            answers[films[2]] = Answer(right.scores.flip(0), right.frames, right.macs)
        if films[1] in answers:
            right = answers[films[1]]
            answers[films[1]] = Answer(right.scores, right.frames, right.macs + 1)
        return answers

    monkeypatch.setitem(PIPELINES, "wrong", Pipeline(wrong, "all"))
    wanted = wanted_answers(network, films, Settings())
    groups = [films[:2], films[2:]]
    courses = measure(network, groups, wanted, Settings(), names=["wrong", "fixed-seeking"], repetitions=2)
    assert courses["wrong"].different == {films[1], films[2]}
    assert max(courses["wrong"].score_differences) > 1e-4
    assert courses["fixed-seeking"].different == set()
    assert [len(seconds) for seconds in courses["wrong"].seconds.values()] == [2, 2]


def test_rates_are_all_videos_over_the_medians_of_their_groups() -> None:
    course, answer = Course(), Answer(torch.tensor([0.0, 1.0]), 3, 5)
    paths = [Path("a"), Path("b"), Path("c")]
    for first, second in ((1.0, 8.0), (2.0, 4.0), (9.0, 5.0)):
        course.add(0, first, {paths[0]: answer, paths[1]: answer}, None)
        course.add(1, second, {paths[2]: answer}, {paths[2]: Answer(torch.tensor([0.25, 0.75]), 3, 5)})
    assert course.rates() == (3 / 7, 3 / 14, 3 / 6)
    assert course.different == set()
    assert course.score_differences == [0.25] * 3


def test_goals_come_from_the_rows_by_their_names() -> None:
    rates = {
        "batched": 80.0,
        "one-by-one": 40.0,
        "batch-1": 50.0,
        "keyframe": 100.0,
        "all-frames": 32.0,
        "fixed-seeking": 20.0,
        "fixed-full": 10.0,
    }
    frames = {name: 10.0 if name.startswith(("fixed", "all")) else 2.5 for name in rates}
    rows = [
        {
            "collection": "c",
            "backbone": "b",
            "size": 64,
            "workers": 1,
            "pipeline": name,
            "videos_per_s": rate,
            "frames": frames[name],
            "macs": 100 * frames[name],
            "decoded": 30.0 if name == "fixed-seeking" else 20.0,
            "reading_ms": 1.0,
            "top1": 50.0 if name == "keyframe" else 75.0,
            "different": 0,
            "labels_as_gate": 0.9,
        }
        for name, rate in rates.items()
    ]
    goal = classify_tables.goal_of(rows, ms=(3.0, 2.0), key_frames=[1, 3])
    assert (goal["cut_frames"], goal["cut_macs"], goal["cut_decoded"]) == (4.0, 4.0, 1.5)
    assert (goal["over_fixed_seeking"], goal["share"], goal["over_fixed_full"]) == (4.0, 1.0, 8.0)
    assert (goal["over_one_by_one"], goal["over_batch_1"], goal["over_all_frames"]) == (2.0, 1.6, 2.5)
    assert goal["backbone_gain"] == 1.5
    assert goal["reached"] == {"share": True, "more_over_full": True, "over_one_by_one": True}
    assert goal["keyframe"]["over_batched"] == 1.25
    assert (goal["keyframe"]["top1"], goal["keyframe"]["top1_exact"]) == (50.0, 75.0)
    missed = classify_tables.goal_of(
        [row | ({"videos_per_s": 23.0} if row["pipeline"] == "fixed-seeking" else {}) for row in rows],
        ms=(2.9, 2.0),
        key_frames=[1, 3],
    )
    assert missed["share"] == pytest.approx(20 / 23)
    assert missed["reached"] == {"share": False, "more_over_full": True, "over_one_by_one": None}
    text = classify_tables.table({"rows": rows, "goals": [goal, missed | {"keyframe": None}]})
    assert "| c, b 64, 1 | batched | 80.0 | 2.50 | 0.0 | 20.0 | 1.0 | 75.0 | 0 |" in text
    assert "| c, b 64, 1 | 4.00 | 4.00 | 1.50 | 4.00 | 1.00 | 8.00 | 2.00 | 1.60 | 1.50 | 1.25 | 50.0, 75.0 |" in text
    widths = [line.count("|") for line in text.splitlines() if line]
    assert widths == [10] * 9 + [13] * 4


def test_gates_let_a_share_of_the_videos_go_with_room_for_rounding() -> None:
    model = frame_exit("tiny", classes=3, hidden=8)
    z = torch.randn(200, 10, 8, generator=torch.Generator().manual_seed(0)).relu().cummax(1).values
    state_of = model.gates

    def outputs() -> Outputs:
        with torch.no_grad():
            gates = [state_of(t, z[:, t - 2] if t > 1 else None, z[:, t - 1]) for t in range(1, 11)]
            logits = [model.classifiers[t](z[:, t]) for t in range(10)]
        return Outputs(torch.stack(logits, 1), torch.stack(gates, 1), z)

    set_gates(model, outputs())
    macs = make_network("tiny", model, Preprocess(size=(32, 32)), trained=False).macs
    exits = decide(model, outputs(), LearnedGate(), macs=macs)
    left = 200
    for t in range(1, 10):
        leaving = int((exits.frames == t).sum())
        assert abs(leaving - 0.23 * left) <= 0.1 * left + 1
        left -= leaving
    assert 3 < float(exits.frames.double().mean()) < 5
    seen = torch.arange(1, 11)[None] <= exits.frames[:, None]
    assert float(outputs().gate_logits[:, :9][seen[:, :9]].abs().min()) > 1e-5


def test_answers_of_random_networks_depend_on_the_video(films: list[Path], network: Network) -> None:
    said = outputs_of(network, films)
    assert float(said.logits[:, -1].std(0).min()) > 1e-3
    assert len(set(decide(network.model, said, LearnedGate(), macs=network.macs).frames.tolist())) > 1


def test_threads_run_ahead_in_order_and_no_further_than_allowed() -> None:
    lock, begun, given = threading.Lock(), 0, 0
    most = 0

    def work(item: int) -> int:
        nonlocal begun, most
        with lock:
            begun += 1
            most = max(most, begun - given)
        time.sleep(0.001 * (item % 3))
        if item == 17:
            raise OSError("item 17")
        return item * item

    for item, found in ahead(work, range(10), workers=3, most=4):
        given += 1
        assert (item, found) == (given - 1, item * item)
    assert given == 10
    assert 2 <= most <= 5  # one more is begun before one is given
    with pytest.raises(OSError, match="item 17"):
        list(ahead(work, range(15, 30), workers=2, most=4))
    assert begun < 10 + 15


def test_networks_that_fixed_pipelines_cannot_run_are_refused() -> None:
    how = Preprocess(size=(32, 32))
    for options in ({"pooling": "lstm"}, {"multi_label": True}, {"order": "random"}):
        with pytest.raises(InputError, match="expected maxima"):
            make_network("tiny", frame_exit("tiny", classes=3, hidden=8, **options), how, trained=False)


def test_the_whole_of_it_writes_rows_and_goals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classify_collections, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(classify, "FILM_SIZE", 32)
    target = tmp_path / "found" / "classify.json"
    options = "--quick --weights none --collections films films-24 --films 3 --workers 1 --json".split()
    classify.main([*options, str(target)])
    result = json.loads(target.read_text())
    assert {row["collection"] for row in result["rows"]} == {"films", "films-24"}
    assert all(row["different"] in (0, None) for row in result["rows"])
    assert [goal["key_frames"]["most"] for goal in result["goals"]][1] == 2
    assert result["environment"]["threads"] == 1
    assert (result["batch"], result["index"], result["weights"]) == (16, "made anew", None)
    assert "| films-24, tiny 32, 1 | keyframe |" in capsys.readouterr().out
    folders = [path.name for path in (tmp_path / "cache").iterdir()]
    assert sorted(folders) == ["film-files-test-3-64", "film-files-test-3-64-key-24"]


def test_quick_gives_way_to_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def options(text: str) -> argparse.Namespace:
        return classify.parse(text.split())

    quick = options("--quick --weights none --films 72")
    assert (quick.films, quick.clips, quick.repetitions, quick.backbones) == (
        72,
        12,
        1,
        ["tiny", "mobilenetv3-small"],
    )
    whole = options(f"--weights {tmp_path}")
    assert (whole.films, whole.clips, whole.repetitions, whole.weights) == (216, None, None, tmp_path)
    assert whole.backbones == ["tiny", "mobilenetv3-small", "resnet50"]
    assert options(f"--weights {tmp_path / 'none'} --collections clips").collections == ["clips"]
    with pytest.raises(SystemExit):
        options(f"--weights {tmp_path / 'none'}")
    assert "train the films' network" in capsys.readouterr().err
