"""The claims' bookkeeping: curves, costs, verdicts, and that the page is made from the rows alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import benchmarks.claims.skip_claims as skip_claims
import benchmarks.claims.skip_page as page
from benchmarks.claims.curves import Point, at_ratio, by_setting, curves, largest_ratio, seeds_at, spread
from benchmarks.claims.judging import OURS, beats, on_average, verdict
from benchmarks.claims.runs import Results, Run, carry_out, to_do
from benchmarks.claims.skip_claims import CLAIMS
from benchmarks.claims.skip_runs import BETAS, runs


def points(*pairs: tuple[float, float]) -> list[Point]:
    return [Point(accuracy, 100 / ratio, ratio) for ratio, accuracy in pairs]


def test_accuracy_at_a_cost_lies_between_its_neighbours() -> None:
    line = points((1.0, 95.0), (4.0, 91.0))
    assert at_ratio(line, 1.0) == 95.0
    assert at_ratio(line, 4.0) == 91.0
    assert at_ratio(line, 2.0) == pytest.approx(93.0)
    assert at_ratio(line, 4.01) is None
    assert at_ratio([], 2.0) is None
    assert at_ratio(line, 0.5) == 95.0  # whoever may spend more than the dense network may run it


def test_a_cheaper_and_better_setting_counts_at_every_higher_cost() -> None:
    line = points((2.0, 90.0), (3.0, 94.0))
    assert at_ratio(line, 2.0) == 94.0
    assert at_ratio(line, 2.5) == 94.0


def test_the_largest_ratio_is_of_the_settings_that_are_good_enough() -> None:
    line = points((2.0, 95.0), (3.0, 94.0), (5.0, 94.5))
    assert largest_ratio(line, 94.2) == 5.0
    assert largest_ratio(line, 94.9) == 2.0
    assert largest_ratio(line, 96.0) is None


def test_a_verdict_needs_every_check() -> None:
    assert verdict([True, True]) == "yes"
    assert verdict([True, False]) == verdict([True, None]) == "partly"
    assert verdict([False]) == verdict([None]) == verdict([]) == "no"


def test_spread_says_mean_and_range() -> None:
    assert spread([94.0, 95.0, 96.0]) == "95.0 (94.0 to 96.0)"
    assert spread([94.04]) == "94.0"
    assert spread([]) == "not reached"


def row(accuracy: float, ratio: float, options: Mapping[str, Any], *, key: str) -> dict[str, Any]:
    plain = {key: accuracy, "pck@0.1": accuracy, "macs": 100 / ratio, "dense_macs": 100.0, "macs_ratio": ratio}
    return {"options": dict(options), "measures": {"plain": plain}}


def made_rows() -> dict[str, Any]:
    """Returns rows of two seeds of everything, as the runs would leave them."""
    rows: dict[str, Any] = {}
    for name, run in runs().items():
        task, _, seed = name.split("/")
        if seed == "2":
            continue
        key = "ap" if task == "street" else "pck@0.2"
        beta = float(run.options.get("beta", 0.0))
        betas = BETAS.get(task, ())
        press = betas.index(beta) + 1 if beta in betas else 0
        accuracy, ratio = 95 - 0.4 * press + 0.2 * int(seed), 1.0 + press
        rows[name] = row(accuracy, ratio, run.options, key=key)
        plain = rows[name]["measures"]["plain"]
        bad = {key: 80.0, "pck@0.1": 80.0, "macs": 20.0}
        more: dict[str, Any] = {
            "references": {every: plain for every in ("4", "8", "16", "inf")},
            "long_videos": {"frames": 80, "whole": plain, "first": plain, "last": plain},
            "shares": {"layers": {"body.conv1": 0.5, "body.layer1.0.conv1": 0.4 - beta / 2, "body.stage2.x": 0.3,
                                  "body.stage3.x": 0.2, "head": 0.1}},
            "norm_gates": {"rows": [{"gate": gate, "form": form, "threshold": 1.0, **plain, **bad}
                                    for gate in ("InputNorm", "OutputNorm") for form in ("residual", "refresh")]},
            "key_frames": {"rows": [{"every": 4, **plain, key: 70.0, "macs": 25.0}]},
            "classes_25": {"top1": accuracy, "macs": 100 / ratio, "dense_macs": 100.0},
            "classes_6": {"top1": accuracy, "macs": 30 / ratio, "dense_macs": 30.0},
            "flow": {"rows": [{"every": 4, **plain, key: 75.0, "macs": 30.0}]},
        }  # fmt: skip
        rows[name]["measures"] |= {measure: more[measure] for measure in run.measures if measure in more}
    return rows


def test_curves_hold_every_method_and_seed() -> None:
    found = curves(made_rows(), "puppets")
    assert [item.ratio for item in found[OURS][0]] == pytest.approx([2.0, 3.0, 4.0])
    assert [item.ratio for item in found[OURS][1]] == pytest.approx([3.0, 4.0])
    assert [len(seeds) for seeds in by_setting(found, OURS).values()] == [2, 2]
    assert [item.accuracy for item in found["key frames"][0]] == [70.0]
    assert found["key frames"][0][0].ratio == 4.0
    assert set(found[OURS]) == {0, 1}
    assert seeds_at(found, OURS, 3.0) == pytest.approx([94.2, 94.4])
    assert seeds_at(found, OURS, 2.0) == pytest.approx([94.2, 94.4])  # the setting only one seed has does not count
    assert seeds_at(found, OURS, 4.5) == []
    assert beats(found, OURS, "key frames", 3.0)
    assert beats(found, "key frames", OURS, 3.0) is False
    assert beats(found, OURS, "nobody", 3.0) is None
    assert on_average(found, OURS) is None  # every gated setting is a little worse than dense
    assert on_average(found, OURS, slack=1.0) == pytest.approx(3.0)


def test_smaller_networks_are_counted_against_the_whole_one() -> None:
    rows = made_rows()
    rows["puppets/spatial-svd-0.5/0"]["measures"]["plain"] |= {"macs": 50.0, "dense_macs": 50.0}
    assert curves(rows, "puppets")["spatial SVD"][0][0].ratio == 2.0


def test_the_page_is_made_from_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gated = {
        "network": "hrnet_w32",
        "gate": "size",
        "form": "refresh",
        "macs_ratio": 4.0,
        "speed_up": 3.0,
        "realised": 0.75,
    }
    (tmp_path / "gated.json").write_text(json.dumps({"rows": [gated]}))
    monkeypatch.setattr(skip_claims, "GATED", tmp_path / "gated.json")
    monkeypatch.setattr(page, "DOCS", tmp_path)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    claims = page.write_page(made_rows())
    assert [claim.id for claim in claims] == [f"S{i}" for i in range(1, 11)]
    written = json.loads((tmp_path / "claims-skip.json").read_text())
    assert {item["reproduced"] for item in written} <= {"yes", "partly", "no"}
    assert set(written[0]) == {"id", "claim", "protocol", "paper", "ours", "reproduced", "why", "seeds"}
    text = (tmp_path / "claims-skip.md").read_text()
    assert all(claim.claim in text for claim in claims)
    assert all((tmp_path / "pictures" / f"skip-{name}.svg").exists() for name in ("fig4", "fig5", "fig7", "fig8"))


def test_claims_wait_for_their_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "DOCS", tmp_path)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    monkeypatch.setattr(skip_claims, "GATED", tmp_path / "gated.json")
    some = {name: row for name, row in made_rows().items() if name.startswith(("puppets/dense", "puppets/magnitude"))}
    assert [claim.id for claim in page.write_page(some)] == ["S10"]


def test_every_run_starts_from_one_before_it() -> None:
    seen: set[str] = set()
    for name, run in runs().items():
        assert run.start == "" or run.start in seen
        assert name == run.name
        seen.add(name)
    assert len(CLAIMS) == 10


WORKER = """
import json, sys
name = sys.argv[1]
if "bad" in name:
    raise SystemExit("no")
print("training ...")
print(json.dumps({"measures": {"plain": {"value": len(name)}}}))
"""


def test_runs_are_carried_out_once_and_failures_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.claims.runs.WORK", tmp_path / "work")
    monkeypatch.setattr("benchmarks.claims.runs.ROOT", tmp_path)
    (tmp_path / "worker.py").write_text(WORKER)
    wanted = [
        Run("a/one/0", "x.py", {"k": 1}, ("plain",)),
        Run("a/bad/0", "x.py", {}, ("plain",)),
        Run("a/after/0", "x.py", {}, ("plain",), start="a/one/0"),
        Run("a/lost/0", "x.py", {}, ("plain",), start="a/bad/0"),
    ]
    results = Results(tmp_path / "results" / "rows.json")
    failed = carry_out(wanted, results, module="worker", workers=2, minutes=None)
    assert sorted(failed) == ["a/bad/0", "a/lost/0"]
    again = Results(tmp_path / "results" / "rows.json")
    assert set(again.rows) == {"a/one/0", "a/after/0"}
    assert again.rows["a/one/0"]["measures"]["plain"]["value"] == 7
    assert again.done(wanted[0])
    assert not again.done(Run("a/one/0", "x.py", {"k": 2}, ("plain",)))
    assert not again.done(Run("a/one/0", "x.py", {"k": 1}, ("plain", "more")))


# Trains anew at every call, and what starts from it says from what.
TRAINING = """
import hashlib, json, pathlib, sys, uuid
digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
folder = pathlib.Path("work") / sys.argv[1]
with open("called", "a") as file:
    file.write(sys.argv[1] + " ")
weights = folder / "weights.safetensors"
weights.write_text(str(uuid.uuid4()))
row = {"measures": {"plain": {"value": 0}}, "weights": digest(weights)}
if "after" in sys.argv[1]:
    row["start"] = digest(folder.parents[1] / "one/0/weights.safetensors")
print(json.dumps(row))
"""


@dataclass
class Place:
    """A folder with runs: one, and two that start from it."""

    path: Path
    results: Results
    runs: list[Run]

    def carry_out(self, *numbers: int) -> list[str]:
        """Returns the names of the runs that were called."""
        called = self.path / "called"
        called.write_text("")
        assert carry_out([self.runs[i] for i in numbers], self.results, module="worker", workers=1, minutes=None) == []
        return called.read_text().split()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, at in {"WORK": tmp_path / "work", "KEPT": tmp_path / "kept", "ROOT": tmp_path}.items():
        monkeypatch.setattr(f"benchmarks.claims.runs.{name}", at)
    (tmp_path / "worker.py").write_text(TRAINING)
    one = Run("a/one/0", "x.py", {}, ("plain",))
    later = [Run(f"a/after{i}/0", "x.py", {}, ("plain",), start=one.name) for i in range(2)]
    return Place(tmp_path, Results(tmp_path / "results" / "rows.json"), [one, *later])


def test_runs_that_are_there_are_not_made_again(place: Place) -> None:
    assert place.carry_out(0, 1) == ["a/one/0", "a/after0/0"]
    assert place.carry_out(0, 1, 2) == ["a/after1/0"]
    assert place.carry_out(0, 1, 2) == []
    shutil.rmtree(place.path / "work")
    assert place.carry_out(0, 1, 2) == []  # nothing starts from what is lost


@pytest.mark.parametrize("lost", ["gone", "another"])
def test_what_started_from_a_network_that_is_lost_is_made_again_with_it(
    place: Place, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.carry_out(0, 1)
    assert "made again" not in capsys.readouterr().out
    before = dict(place.results.rows)
    weights = place.runs[0].folder / "weights.safetensors"
    weights.unlink() if lost == "gone" else weights.write_text("another network")
    assert [run.name for run in to_do(place.runs, place.results)] == ["a/one/0", "a/after0/0", "a/after1/0"]
    assert place.carry_out(0, 2) == ["a/one/0", "a/after1/0"]
    assert capsys.readouterr().out.count("made again") == 1  # not where there is nothing yet
    assert place.results.rows["a/one/0"]["weights"] != before["a/one/0"]["weights"]
    assert not place.results.done(place.runs[1])  # it was not asked for, and is of the network that was lost
    assert not place.results.comparable(place.runs[1])
    assert place.carry_out(0, 1, 2) == ["a/after0/0"]
    assert all(place.results.done(run) for run in place.runs)


def test_kept_weights_are_not_lost(place: Place) -> None:
    place.carry_out(0, 1)
    one = place.runs[0]
    one.kept.parent.mkdir()
    shutil.move(one.folder / "weights.safetensors", one.kept)
    assert one.kept == place.path / "kept" / "a-one-0.safetensors"
    assert place.carry_out(0, 1, 2) == ["a/after1/0"]
    one.kept.write_text("another network")  # is not that of the row
    assert place.carry_out(0, 1, 2) == []
    place.results.rows.pop("a/after1/0")
    assert place.carry_out(0, 1, 2) == ["a/after1/0"]
    (one.folder / "weights.safetensors").unlink()
    place.results.rows.pop("a/after1/0")
    assert place.carry_out(0, 1, 2) == ["a/one/0", "a/after0/0", "a/after1/0"]


def test_rows_that_name_no_weights_stand_until_their_start_is_made_again(place: Place) -> None:
    for run in place.runs[:2]:
        place.results.add(run, {"options": {}, "measures": {"plain": {"value": 0}}})
    assert place.carry_out(0, 1) == []
    assert place.carry_out(0, 1, 2) == ["a/one/0", "a/after0/0", "a/after1/0"]
