"""The claims of VA-RED2: runs, measures, verdicts, and that the page is made from the rows alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import benchmarks.claims.reduce_claims as reduce_claims
import benchmarks.claims.reduce_page as page
import recipes.moving_clips
from benchmarks.claims.__main__ import main
from benchmarks.claims.curves import by_setting, of_same_seeds
from benchmarks.claims.drawn import settings_table
from benchmarks.claims.judging import on_average, share_in_time
from benchmarks.claims.reduce_claims import CLAIMS, judge
from benchmarks.claims.reduce_curves import (
    CHANNELS,
    OURS,
    RIVALS,
    TIME,
    TUNED,
    beside_dense,
    curves,
    method_of,
    setting_of,
)
from benchmarks.claims.reduce_judging import saves, without_loss
from benchmarks.claims.reduce_measures import MEASURES, shares
from benchmarks.claims.reduce_runs import ABLATED, runs
from benchmarks.claims.runs import WORK, Results, digest_of, plan
from benchmarks.reduce import summary
from saccade.data.puppets_clips import CLIP_ACTIONS
from saccade.reduce import Policy, ReducedModel
from saccade.train import load_recipe

# What the methods of made-up rows give: accuracy and macs ratio.
GIVEN = {"dense": (80.0, 1.0), "tuned": (81.0, 1.0), "both-2.0": (81.2, 1.8), "both-0.8": (81.5, 1.3),
         "magnitude-refresh-0.3": (80.5, 5.0), "magnitude-refresh-1.0": (78.0, 6.0),
         "magnitude-refresh-3.0": (75.0, 8.0), "reduce-0.3": (80.0, 1.5), "reduce-1.0": (78.0, 1.9),
         "skip+reduce-0.3": (80.2, 6.0), "skip+reduce-1.0": (79.0, 7.0),
         "free": (81.0, 1.0), "time-2.0": (80.0, 1.4), "channels-2.0": (80.5, 1.5)}  # fmt: skip
RIVAL = (70.0, 2.0)


def made_rows(given: dict[str, tuple[float, float]] | None = None) -> dict[str, Any]:
    """Returns rows of everything, as the runs would leave them."""
    found = {**GIVEN, **(given or {})}
    rows: dict[str, Any] = {}
    for name, run in runs().items():
        _, method, seed = name.split("/")
        accuracy, ratio = found.get(method, RIVAL)
        here = accuracy + 0.1 * int(seed)
        plain = {**dict.fromkeys(("top1", "pck@0.1", "map50", "miou"), here),
                 "macs": 100 / ratio, "dense_macs": 100.0, "macs_ratio": ratio,
                 "least_macs": 20.0, "most_macs": 90.0, "overhead": 0.02, "spread_within_class": 0.01,
                 "rank_correlation_with_motion": 0.3}  # fmt: skip
        alike = {"cc": 0.8, "cc_absolute": 0.8, "cc_nearest": 0.9, "rmse": 0.1}
        more = {
            "policies": {
                "layers": ["model.body.stem.0"],
                **{kind: [[0.5] * 12] for kind in ("time", "channels", "macs")},
                "costs": [0.2 + 0.01 * index for index in range(24)],
                "labels": [index % 12 for index in range(24)],
            },
            "redundancy": {
                "clips": 24,
                "layers": 10,
                "time": {**alike, "redundant_maps": 0.6},
                "channel": {**alike, "redundant_maps": 0.5},
            },
        }
        measures = {"plain": plain, **{name: more[name] for name in run.measures if name != "plain"}}
        rows[name] = {"options": dict(run.options), "measures": measures}
    return rows


def verdicts(rows: dict[str, Any]) -> dict[str, str]:
    return {claim.id: claim.reproduced for claim in judge(rows)}


def test_every_run_starts_from_one_before_it_and_says_how_long_it_takes() -> None:
    seen: set[str] = set()
    for name, run in runs().items():
        assert run.start == "" or run.start in seen
        assert name == run.name
        assert run.minutes > 0
        assert method_of(name.split("/")[1])[0]
        load_recipe(run.recipe, run.options)  # its options are ones the recipe has
        seen.add(name)
    assert len(CLAIMS) == 11


def test_what_has_a_goal_has_every_seed_and_the_rest_one() -> None:
    for network in ("r2plus1d", "x3d"):
        found = curves(made_rows(), network)
        for method in ("dense", TUNED, OURS):
            assert max(len(points) for points in by_setting(found, method).values()) == 3, (network, method)
    found = curves(made_rows(), "r2plus1d")
    assert all(set(found[method]) == {0} for method in (TIME, CHANNELS, *RIVALS))


def test_several_names_may_be_asked_for_and_what_they_start_from_comes_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["claims", "reduce", "--list", "--only", "x3d/tuned/1", "pspnet/channels-0.8/0"]
    monkeypatch.setattr("sys.argv", asked)
    main()
    names = {line.split()[-1] for line in capsys.readouterr().out.splitlines()[:-1]}
    assert names == {"x3d/dense/1", "x3d/tuned/1", "pspnet/dense/0", "pspnet/channels-0.8/0"}


def test_curves_are_of_macs_against_the_dense_network() -> None:
    rows = made_rows()
    rows["r2plus1d/half-rate/0"]["measures"]["plain"] |= {"macs": 40.0, "dense_macs": 40.0}
    found = curves(rows, "r2plus1d")
    assert found["half the frames"][0][0].ratio == 2.5
    assert setting_of(found, OURS, "lambda 2.0") == pytest.approx((81.3, 1.8))
    assert setting_of(found, OURS, "lambda 7") is None
    assert on_average(found, OURS) == pytest.approx(1.8)
    fair = curves(made_rows({"both-2.0": (80.5, 1.8), "both-0.8": (79.2, 2.4)}), "r2plus1d")
    assert (on_average(fair, OURS), on_average(fair, OURS, tuned=False)) == (None, pytest.approx(1.8))
    assert (saves(fair, 0.4), saves(fair, 0.5), saves(fair, 0.5, slack=1.0)) == (
        [True, False], [False, False], [True, False],
    )  # fmt: skip


def test_verdicts_follow_their_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduce_claims, "SPEED", tmp_path / "none.json")
    assert verdicts(made_rows()) == {
        "V1": "yes", "V2": "partly", "V3": "yes", "V4": "yes", "V5": "not tested", "V6": "yes", "V7": "yes",
        "V8": "partly", "V9": "yes", "V10": "yes", "SV": "yes",
    }  # fmt: skip
    worse = verdicts(made_rows({"both-2.0": (78.0, 1.8), "both-0.8": (78.5, 1.3)}))
    assert (worse["V1"], worse["V2"], worse["V3"]) == ("no", "no", "no")
    assert (worse["V6"], worse["V7"]) == ("partly", "partly")
    between = verdicts(made_rows({"both-2.0": (80.5, 1.8)}))
    assert (between["V1"], between["V3"]) == ("partly", "partly")
    assert verdicts(made_rows({"both-2.0": (81.2, 2.1)}))["V2"] == "yes"
    assert verdicts(made_rows({"time-2.0": (81.0, 1.9)}))["V6"] == "partly"
    assert verdicts(made_rows({"weights-0.5": (90.0, 2.0)}))["V4"] == "partly"
    assert verdicts(made_rows({"free": (81.0, 2.0)}))["V7"] == "partly"
    assert verdicts(made_rows({"magnitude-refresh-3.0": (78.0, 8.0)}))["SV"] == "yes"
    assert verdicts(made_rows({"magnitude-refresh-3.0": (80.4, 8.0)}))["SV"] == "partly"
    assert verdicts(made_rows({"skip+reduce-0.3": (70.0, 9.0), "skip+reduce-1.0": (60.0, 1.2)}))["SV"] == "partly"


def test_v1_holds_where_networks_that_learned_longer_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduce_claims, "SPEED", tmp_path / "none.json")
    rows = made_rows({"both-2.0": (81.2, 1.5)})
    controls = {name: rows.pop(name) for name in list(rows) if name.startswith("longer/tuned")}

    def change(network: str, **plain: float) -> tuple[str, bool]:
        for name in [name for name in rows if name.startswith(f"{network}/both")]:
            rows[name]["measures"]["plain"] |= plain
        claim = judge(rows)[0]
        return claim.reproduced, "40 %, is reached" in claim.why

    assert change("neither") == ("yes", False)
    assert change("r2plus1d", top1=10.0) == ("partly", False)  # against the dense network only
    assert change("longer", macs=100 / 1.8) == ("partly", True)
    assert "Longer: dense 80.1 (80.0 to 80.2) %, tuned as long not trained" in judge(rows)[0].ours
    rows |= controls
    assert change("longer") == ("yes", True)
    assert change("longer", top1=10.0) == ("no", False)
    for name in [name for name in rows if name.startswith("longer/")]:
        del rows[name]
    assert change("r2plus1d", top1=81.2, macs=100 / 1.8) == ("yes", True)


def test_a_dense_network_that_was_still_learning_is_no_rival(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduce_claims, "SPEED", tmp_path / "none.json")
    for gain, verdict in ((4.9, "partly"), (5.1, "no")):
        rows = made_rows({"tuned": (80.0 + gain, 1.0), "both-2.0": (84.0, 1.8)})
        claim = next(claim for claim in judge(rows) if claim.id == "V3")
        assert (claim.reproduced, "had not finished" in claim.ours) == (verdict, verdict == "no")
        assert saves(beside_dense(rows, "tpn"), 0.4) == [verdict == "partly", False]
    assert saves(beside_dense(made_rows({"tuned": (86.0, 1.0), "both-2.0": (86.0, 1.8)}), "tpn"), 0.4) == [False, True]


def test_methods_are_compared_over_the_seeds_they_have_in_common() -> None:
    """A method that was luckier, with seeds the other does not have, is not held against it."""
    rows = made_rows({"time-2.0": (81.0, 1.5), "both-2.0": (81.0, 1.8), "both-0.2": (81.0, 1.2)})
    for name in ("both-2.0/1", "both-2.0/2", "dense/1", "tuned/2"):
        rows[f"r2plus1d/{name}"]["measures"]["plain"]["top1"] = 10.0
    found = of_same_seeds(curves(rows, "r2plus1d"), [OURS, TIME, "not run"])
    assert {method: list(seeds) for method, seeds in found.items()} == {OURS: [0], TIME: [0]}
    claims = {claim.id: claim for claim in judge(rows)}
    assert (claims["V6"].reproduced, claims["V6"].seeds, "One seed so far" in claims["V6"].protocol) == ("yes", 1, True)
    assert (claims["V1"].seeds, "One seed" in claims["V1"].protocol) == (3, False)
    table = settings_table(curves(rows, "r2plus1d"), "top-1").splitlines()
    assert table[0].endswith("| seeds |")
    assert {line.split("|")[-2].strip() for line in table if "time only" in line} == {"1"}
    for name in [name for name in rows if name.startswith("r2plus1d/both") and not name.endswith("/1")]:
        del rows[name]
    beside = beside_dense(rows, "r2plus1d")
    assert (list(beside[OURS]), list(beside["dense"])) == ([1], [1])
    nothing: dict[str, Any] = {OURS: {}, "dense": {}, TUNED: {}}
    assert on_average(nothing, OURS) is None
    assert without_loss(nothing).startswith("dense not reached %")


def test_claims_say_what_they_wait_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduce_claims, "SPEED", tmp_path / "none.json")
    claims = judge({})
    assert {claim.reproduced for claim in claims} == {"not tested"}
    assert [claim.id for claim in claims] == [*(f"V{i}" for i in range(1, 11)), "SV"]
    assert "r2plus1d/dense/" in claims[0].why


def test_what_became_time_is_a_share_of_what_was_cut() -> None:
    row = {"macs_ratio": 2.0, "realised": 0.75, "realised_self": 1.0}
    assert share_in_time(row, "realised_self") == 1
    assert share_in_time(row, "realised") == pytest.approx((1 - 1 / 1.5) / 0.5)
    assert share_in_time({"macs_ratio": 2.0, "realised": 0.4}, "realised") < 0
    shown = {"network": "x3d:m", "batch": 1, "engine": "half", "ms": 5.0, "clips_per_second": 200.0, "error": 1e-7}
    assert "macs / 2.00, of the cut 1.00 in time (0.67 against OpenVINO)" in summary({**shown, **row})
    assert summary({**shown, **row, "macs_ratio": 1.0}).endswith("macs / 1.00  error 1e-07")  # nothing was cut
    assert "macs" not in summary(shown)


def test_the_page_is_made_from_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = {
        "network": "x3d:m",
        "batch": 1,
        "engine": "half time",
        "macs_ratio": 2.0,
        "realised": 0.8,
        "realised_self": 0.9,
    }
    (tmp_path / "reduce.json").write_text(json.dumps({"rows": [speed, {"engine": "torch"}]}))
    monkeypatch.setattr(reduce_claims, "SPEED", tmp_path / "reduce.json")
    monkeypatch.setattr(page, "DOCS", tmp_path)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    rows = made_rows()
    for name, row in rows.items():
        if name.startswith("x3d/"):
            row["measures"].pop("policies", None)  # one network's pictures will do
    claims = page.write_page(rows)
    written = json.loads((tmp_path / "claims-reduce.json").read_text())
    assert {item["id"]: item["reproduced"] for item in written} == verdicts(rows)
    assert written[4]["reproduced"] == "yes"
    text = (tmp_path / "claims-reduce.md").read_text()
    assert all(claim.claim in text for claim in claims)
    names = ["rivals.svg", "dimensions.svg"]
    names += [f"policy-r2plus1d-{kind}.svg" for kind in ("time", "channels", "macs")]
    names += ["costs-r2plus1d.svg", "clips-r2plus1d.png"]
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {f"reduce-{name}" for name in names}
    assert all(f"pictures/reduce-{name}" in text for name in names)


def test_nothing_is_drawn_of_methods_that_have_no_seed_in_common(tmp_path: Path) -> None:
    rows = {name: row for name, row in made_rows().items() if name != f"r2plus1d/tuned/{ABLATED}"}
    assert page.draw(rows, tmp_path) == []  # the rivals have that seed only


def test_a_plan_says_what_is_done_and_what_is_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.claims.runs.WORK", tmp_path)
    some = [run for name, run in runs().items() if name.startswith("r2plus1d/") and name.endswith("/2")][:3]
    results = Results(tmp_path / "rows.json")
    row = {"options": dict(some[0].options), "measures": {name: {} for name in some[0].measures}, "seconds": 240}
    results.add(some[0], row)
    lines = plan(some, results).splitlines()
    assert lines[0].split() == [f"{some[0].minutes:.1f}", "min", some[0].name]  # the others start from lost weights
    some[0].folder.mkdir(parents=True)
    (some[0].folder / "weights.safetensors").write_text("some")
    results.add(some[0], {**row, "weights": digest_of(some[0].folder / "weights.safetensors")})
    lines = plan(some, results).splitlines()
    assert lines[0].split() == ["done", "4.0", "min", some[0].name]
    assert lines[1].split() == [f"{some[1].minutes:.1f}", "min", some[1].name]
    assert lines[-1] == f"3 runs, {some[1].minutes + some[2].minutes:.0f} minutes of one core to come, 4 carried out"


@pytest.fixture
def few_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes.moving_clips, "CACHE", tmp_path)
    monkeypatch.setattr(recipes.moving_clips, "CLIPS", {"train": 12, "validation": 12, "test": 14})


@pytest.mark.usefixtures("few_clips")
def test_policies_are_counted_by_layer_and_class(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("recipes/reduction.py", {"method": "both"})
    model: Any = recipe.build().eval()
    force: dict[str, Policy] = {}

    class Forced(ReducedModel):
        def forward(self, clips: torch.Tensor, **_: Any) -> Any:
            return super().forward(clips, force=force)

    names = [use.name for use in model(torch.zeros(1, 3, 16, 48, 48))[1].reduced]
    force |= dict.fromkeys(names, Policy()) | {names[0]: Policy(1, 0), names[1]: Policy(1, 1)}
    found = MEASURES["policies"](recipe, Forced(model.model))
    assert found["layers"] == names
    assert found["time"][0] == found["time"][1] == found["channels"][1] == [0.5] * len(CLIP_ACTIONS)
    assert found["channels"][0] == [1.0] * len(CLIP_ACTIONS)
    assert found["macs"][1] == [0.25] * len(CLIP_ACTIONS)
    assert found["macs"][2:] == [[1.0] * len(CLIP_ACTIONS)] * (len(names) - 2)
    assert found["labels"] == [(10_000_000 + index) % 12 for index in range(14)]
    cost = Forced(model.model)(torch.zeros(1, 3, 16, 48, 48))[1]
    assert found["costs"] == [round(float(cost.macs) / cost.dense_macs, 4)] * 14


@pytest.mark.usefixtures("few_clips")
def test_redundancy_is_of_the_dense_network_over_test_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.claims.reduce_measures.REDUNDANT_CLIPS", 2)
    recipe = load_recipe("recipes/reduction.py", {"network": "x3d"})
    model: Any = recipe.build().eval()
    found = MEASURES["redundancy"](recipe, model)
    assert found["clips"] == 2
    assert -1 <= found["time"]["cc"] <= 1
    assert 0 <= found["channel"]["redundant_maps"] <= 1


def test_shares_are_those_of_the_largest_options_in_use() -> None:
    recipe = load_recipe("recipes/reduction.py", {"method": "both"})
    model: Any = recipe.build().eval()
    first: Any = next(module for module in model.modules() if hasattr(module, "cheap"))
    with torch.no_grad():
        first.gate.outer.weight.zero_()
        first.gate.outer.bias.copy_(torch.tensor([-1.0, -1.0, 1.0, 1.0]))  # the half of time, all channels
    use = model(torch.zeros(2, 3, 16, 48, 48))[1].reduced[0]
    assert shares(use) == [(0.5, 1.0)] * 2


def test_the_run_module_trains_and_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_clips: Callable[[], None]
) -> None:
    import benchmarks.claims.reduce_runs as reduce_runs
    from benchmarks.claims.runs import Run, train_run

    monkeypatch.setattr("benchmarks.claims.runs.WORK", tmp_path)
    options = {"network": "r2plus1d", "seed": 0, "steps": 1}
    every = {
        "r2plus1d/dense/0": Run("r2plus1d/dense/0", reduce_runs.RECIPE, options, ("plain",)),
        "r2plus1d/both-0.8/0": Run(
            "r2plus1d/both-0.8/0", reduce_runs.RECIPE, {**options, "method": "both"}, ("plain",), "r2plus1d/dense/0"
        ),
    }
    rows = {name: train_run(run, every, reduce_runs.measure) for name, run in every.items()}
    assert rows["r2plus1d/dense/0"]["measures"]["plain"]["macs_ratio"] == 1
    reduced = rows["r2plus1d/both-0.8/0"]["measures"]["plain"]
    assert reduced["dense_macs"] == rows["r2plus1d/dense/0"]["measures"]["plain"]["dense_macs"]
    assert reduced["overhead"] > 0
    dense, later = rows["r2plus1d/dense/0"], rows["r2plus1d/both-0.8/0"]
    assert later["start"] == dense["weights"] == digest_of(every["r2plus1d/dense/0"].folder / "weights.safetensors")
    assert "start" not in dense
    assert later["weights"] != dense["weights"]
    checkpoint = tmp_path / "r2plus1d" / "dense" / "0" / "checkpoint.pt"
    torch.save({**torch.load(checkpoint), "seconds": 500.0}, checkpoint)
    again = train_run(every["r2plus1d/dense/0"], every, reduce_runs.measure)
    assert (again["weights"], again["device"], again["train_seconds"]) == (dense["weights"], "cpu", 500)  # spent before
    assert ABLATED in {int(name.split("/")[-1]) for name in every}


def test_a_pyramid_is_put_on_the_dense_network_and_the_others_go_on_from_the_pyramid() -> None:
    every, given = runs(), {}
    for name in ("tpn/dense/0", "tpn/tuned/0", "i3d/dense/0", "r2plus1d/dense/0"):
        options = every[name].all_options(every)
        given[name] = {key: options.get(key, "").removeprefix(f"{WORK}/") for key in ("trunk", "start")}
    assert given == {
        "tpn/dense/0": {"trunk": "r2plus1d/dense/0", "start": ""},
        "tpn/tuned/0": {"trunk": "", "start": "tpn/dense/0"},
        "i3d/dense/0": {"trunk": "", "start": ""},
        "r2plus1d/dense/0": {"trunk": "", "start": ""},
    }
