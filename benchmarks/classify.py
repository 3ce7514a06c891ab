"""Videos per second, decoding included, of early exits beside pipelines that look at ten frames of every video.

    python -m benchmarks.classify --json benchmarks/results/classify.json [--quick]

Collections (`benchmarks.classify_collections`): rendered films of 40, 80 and 160 pictures with a trained FrameExit
(`--weights`, a folder of `saccade train recipes/exits.py --out FOLDER`); the same films with a key frame every 24
pictures; surveillance clips with networks of random weights, whose gates are set so that about four of ten frames are
looked at, and whose answers mean nothing. Times of these do.

Pipelines (`benchmarks.classify_pipelines`), all with the same torch network on one thread:

- batched: learned gate, seeking, continuous batching; `workers` threads decode.
- one-by-one: one video after the other in one thread; the number of workers changes nothing.
- batch-1: as batched, a single frame at a time through the network: what batches themselves give.
- keyframe: as batched, the key frame nearest to each frame. Left out where every file has but one, as the surveillance
  clips: all ten frames would be the same picture.
- all-frames: as batched, without exits.
- fixed-seeking: ten frames by seeking, one batch of ten, one maximum, one classifier; `workers` threads run ahead.
- fixed-full: the same ten out of all pictures of the file, decoded from end to end.

They run in turn over the same groups of files, beginning with another one each time. `videos_per_s` is the number of
videos over the sum of each group's median seconds; `slowest` and `fastest` are of whole repetitions. Files are in the
system's cache; their indexes are made anew every time (`--kept-index` loads kept ones instead).

Every pass is checked: label, frames and macs of every video must be those that `saccade.exits.decide` finds from the
model's outputs for all frames, by the learned gate or after all of them; `different` counts the videos where they are
not. `decoded` are coded pictures per video, `reading_ms` wall-clock milliseconds of opening, indexing and decoding per
video in the threads that do it, which share the machine with the network.

`goals`, by collection, network and workers: `cut_frames`, frames of fixed-seeking over those of batched (`cut_macs`,
`cut_decoded` likewise); speed-ups of batched, and `share`, that over fixed-seeking as a part of the cut in frames.
`backbone_gain` is how many times less a frame costs the backbone in a full batch than alone.
"""

from __future__ import annotations

import os

# Before torch is imported: idle threads must not spin; see benchmarks/rivals.py.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.assets import ASSETS
from benchmarks.classify_collections import Collection, action_clips, film_network, films, outputs_of, random_network
from benchmarks.classify_pipelines import PIPELINES, Answer, Network, Settings
from benchmarks.classify_tables import goal_of, table
from benchmarks.environment import ROOT, environment
from recipes.film_clips import SIZE as FILM_SIZE
from saccade.data.puppets_films import FILM_CLASSES
from saccade.evaluate.video_run import finite
from saccade.exits import FixedBudget, LearnedGate, decide
from saccade.train import read_weights

RESULT = ROOT / "benchmarks" / "results" / "classify.json"
WEIGHTS = ROOT / "out" / "claims" / "films" / "base" / "0"
KEY_EVERY = 24  # pictures, about two seconds
COLLECTIONS = ("films", f"films-{KEY_EVERY}", "clips")
FILMS, FILM_GROUP, FILM_REPETITIONS = 216, 72, 5  # multiples of 36: all classes in all lengths
# Of the clips: height and width of a frame, clips, repetitions.
BACKBONES = {"tiny": (112, 60, 5), "mobilenetv3-small": (112, 60, 5), "resnet50": (224, 36, 3)}
QUICK = {"films": 36, "clips": 12, "repetitions": 1, "backbones": ["tiny", "mobilenetv3-small"]}
WHOLE = {"films": FILMS, "backbones": list(BACKBONES)}
WARM_UP = 8  # videos


class Case(NamedTuple):
    """What is measured together: files in groups of `group`, a network, and how often."""

    collection: Collection
    network: Network
    group: int
    repetitions: int


@dataclass(frozen=True)
class Course:
    """What one pipeline gave.

    Attributes:
        seconds: of each group, of every repetition.
        answers: of the last repetition.
        different: the videos that at least once got another answer than they should.
        score_differences: the largest of any score, of each video in each repetition.
    """

    seconds: dict[int, list[float]] = field(default_factory=dict)
    answers: dict[Path, Answer] = field(default_factory=dict)
    different: set[Path] = field(default_factory=set)
    score_differences: list[float] = field(default_factory=list)

    def add(
        self, group: int, seconds: float, answers: Mapping[Path, Answer], wanted: Mapping[Path, Answer] | None
    ) -> None:
        """Adds a pass over a group; `wanted` is None where the answers may be any."""
        self.seconds.setdefault(group, []).append(seconds)
        self.answers.update(answers)
        if wanted is None:
            return
        for path, answer in answers.items():
            right = wanted[path]
            if (answer.label, answer.frames, answer.macs) != (right.label, right.frames, right.macs):
                self.different.add(path)
            self.score_differences.append(float((answer.scores - right.scores).abs().max()))

    def rates(self) -> tuple[float, float, float]:
        """Returns videos per second: by the groups' medians, and of the slowest and the fastest repetition."""
        videos = len(self.answers)
        passes = [sum(of_groups) for of_groups in zip(*self.seconds.values(), strict=True)]
        typical = sum(statistics.median(of_group) for of_group in self.seconds.values())
        return videos / typical, videos / max(passes), videos / min(passes)


def wanted_answers(network: Network, paths: list[Path], settings: Settings) -> dict[str, dict[Path, Answer]]:
    """Returns what pipelines must answer, by `Pipeline.says`, from what the model says of all frames of each video."""
    outputs = outputs_of(network, paths, settings)
    found = {}
    for says, rule in {"rule": LearnedGate(), "all": FixedBudget(network.model.frames)}.items():
        exits = decide(network.model, outputs, rule, macs=network.macs)
        columns = zip(paths, exits.scores, exits.frames.tolist(), exits.macs.tolist(), strict=True)
        found[says] = {path: Answer(scores, frames, macs) for path, scores, frames, macs in columns}
    return found


def measure(
    network: Network,
    groups: Sequence[Sequence[Path]],
    wanted: Mapping[str, Mapping[Path, Answer]],
    settings: Settings,
    *,
    names: Sequence[str],
    repetitions: int,
) -> dict[str, Course]:
    """Returns what pipelines gave that ran in turn over each group, by name."""
    courses = {name: Course() for name in names}
    for name in names:
        PIPELINES[name].run(network, groups[0][:WARM_UP], settings)
    turn = 0
    for _ in range(repetitions):
        for number, paths in enumerate(groups):
            shift = turn % len(names)
            turn += 1
            for name in (*names[shift:], *names[:shift]):
                pipeline = PIPELINES[name]
                began = time.perf_counter()
                answers = pipeline.run(network, paths, settings)
                seconds = time.perf_counter() - began
                courses[name].add(number, seconds, answers, wanted.get(pipeline.says))
    return courses


@torch.no_grad()
def backbone_ms(network: Network, batch: int, *, repetitions: int = 7) -> tuple[float, float]:
    """Returns the milliseconds of a frame, backbone and the layer behind it: alone, and in a batch; medians."""
    frames = torch.randn(batch, *network.frame, generator=torch.Generator().manual_seed(0))
    found: dict[int, list[float]] = {1: [], batch: []}
    for repetition in range(repetitions + 1):
        for size in dict.fromkeys((1, batch)):
            calls = batch // size
            began = time.perf_counter()
            for _ in range(calls):
                network.model.features(frames[:size])
            if repetition:  # the first warms up
                found[size].append(1e3 * (time.perf_counter() - began) / (calls * size))
    return statistics.median(found[1]), statistics.median(found[batch])


def row_of(case: Case, name: str, workers: int, course: Course, exact: Mapping[Path, Answer]) -> dict[str, Any]:
    """Returns the figures of one pipeline; `exact` are the answers by the learned gate, without snapping."""
    rate, slowest, fastest = course.rates()
    answers = [course.answers[path] for path in case.collection.paths]
    truth = case.collection.labels if case.network.trained else ()
    right = [answer.label == label for answer, label in zip(answers, truth, strict=True)] if truth else []
    same = [course.answers[path].label == exact[path].label for path in case.collection.paths]
    checked = PIPELINES[name].says != "other"
    return {
        "collection": case.collection.name,
        "backbone": case.network.name,
        "size": case.network.frame[1],
        "trained": case.network.trained,
        "pipeline": name,
        "workers": workers,
        "videos": len(answers),
        "videos_per_s": rate,
        "slowest": slowest,
        "fastest": fastest,
        "frames": statistics.fmean(answer.frames for answer in answers),
        "macs": statistics.fmean(answer.macs for answer in answers),
        "decoded": statistics.fmean(answer.decoded for answer in answers),
        "reading_ms": statistics.fmean(answer.reading_ms for answer in answers),
        "top1": 100 * statistics.fmean(right) if right else None,
        "labels_as_gate": statistics.fmean(same),
        "different": len(course.different) if checked else None,
        "max_score_difference": max(course.score_differences) if checked else None,
    }


def run(case: Case, settings: Settings, workers: Sequence[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns rows, and a line of goals for each number of workers."""
    paths, counts = case.collection.paths, case.collection.key_frames
    wanted = wanted_answers(case.network, paths, settings)
    ms = backbone_ms(case.network, settings.batch)
    groups = [paths[first : first + case.group] for first in range(0, len(paths), case.group)]
    names = [name for name in PIPELINES if name != "keyframe" or max(counts) > 1]
    rows, goals = [], []
    for count in workers:
        courses = measure(
            case.network,
            groups,
            wanted,
            replace(settings, workers=count),
            names=names,
            repetitions=case.repetitions,
        )
        new = [row_of(case, name, count, course, wanted["rule"]) for name, course in courses.items()]
        rows += new
        goals.append(goal_of(new, ms=ms, key_frames=counts))
    return rows, goals


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Yields what was asked for, each made when its turn comes."""
    for name in arguments.collections:
        if name == "clips":
            yield from clip_cases(arguments)
            continue
        collection = films(arguments.films, key_every=None if name == "films" else KEY_EVERY)
        if arguments.weights is None:
            network = random_network("tiny", FILM_SIZE, collection.paths, classes=len(FILM_CLASSES), hidden=256)
        else:
            network = film_network(arguments.weights)
        yield Case(collection, network, FILM_GROUP, arguments.repetitions or FILM_REPETITIONS)


def clip_cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Yields the surveillance clips with each network; none where the clips are not here."""
    if not (ASSETS / "actions").is_dir():
        print(f"the clips are left out: no folder {ASSETS / 'actions'}", file=sys.stderr)
        return
    for backbone in arguments.backbones:
        size, clips, repetitions = BACKBONES[backbone]
        collection = action_clips(arguments.clips or clips)
        if max(collection.key_frames) == 1:
            print("the clips have one key frame each: without snap='keyframe'", file=sys.stderr)
        network = random_network(backbone, size, collection.paths)
        yield Case(collection, network, len(collection.paths), arguments.repetitions or repetitions)


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options; `weights` is None for random ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--quick", action="store_true", help=f"unless given: {QUICK}")
    parser.add_argument("--weights", default=str(WEIGHTS), help="folder of the films' network; 'none' for random ones")
    parser.add_argument("--collections", nargs="+", default=list(COLLECTIONS), choices=COLLECTIONS)
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), help="of the clips (default: all)")
    parser.add_argument("--films", type=int, help=f"default: {FILMS}")
    parser.add_argument("--clips", type=int, help="default: by network")
    parser.add_argument("--repetitions", type=int, help="default: by network")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--kept-index", action="store_true", help="load kept indexes of files, as of files seen before")
    arguments = parser.parse_args(given)
    for name, value in ({**WHOLE, **QUICK} if arguments.quick else WHOLE).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    arguments.weights = None if arguments.weights == "none" else Path(arguments.weights)
    wants_films = any(name != "clips" for name in arguments.collections)
    if wants_films and arguments.weights is not None and not arguments.weights.is_dir():
        parser.error(
            f"there is no {arguments.weights}; train the films' network (saccade train recipes/exits.py --out FOLDER, "
            "about 15 minutes) and give --weights FOLDER, or --weights none for random ones, or --collections clips"
        )
    return arguments


def about(weights: Path | None) -> dict[str, Any] | None:
    """Returns how the films' network was trained; None where it was not."""
    if weights is None:
        return None
    trained = read_weights(weights)
    return {"recipe": trained.recipe, "options": dict(trained.options), "step": trained.step}


def main(given: Sequence[str] | None = None) -> None:
    """Runs what was asked for and writes the results case by case, so that a stop loses nothing."""
    arguments = parse(given)
    torch.set_num_threads(1)
    settings = Settings(batch=arguments.batch, cache=arguments.kept_index)
    started = time.time()
    result: dict[str, Any] = {
        "environment": environment(),
        "minutes": 0.0,
        "batch": settings.batch,
        "ahead": settings.ahead,
        "index": "kept" if arguments.kept_index else "made anew",
        "weights": about(arguments.weights),
        "goals": [],
        "rows": [],
    }
    for case in cases(arguments):
        rows, goals = run(case, settings, arguments.workers)
        result["rows"] += rows
        result["goals"] += goals
        result["minutes"] = round((time.time() - started) / 60, 1)
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(finite(result), indent=1) + "\n")
        print(f"{case.collection.name}, {case.network.name}: {result['minutes']} minutes", file=sys.stderr, flush=True)
    print(table(result))
    if wrong := [row for row in result["rows"] if row["different"]]:
        first = {name: wrong[0][name] for name in ("collection", "backbone", "pipeline", "workers", "different")}
        sys.exit(f"{len(wrong)} rows hold answers that differ from those they must give; the first is {first}")


if __name__ == "__main__":
    main()
