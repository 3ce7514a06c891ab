"""F1 to F10: the claims of FrameExit, judged by rules written down here before the numbers were known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from benchmarks.claims.claim import Claim
from benchmarks.claims.curves import Curves, by_setting, mean, spread
from benchmarks.claims.exits_curves import (
    ALL,
    BUDGET,
    COUNTS,
    ORACLE,
    ORDERS,
    OURS,
    POOLINGS,
    RIVALS,
    THRESHOLDS,
    ahead,
    all_frames,
    at_cost_of,
    curves,
    every_setting,
    in_words,
    over_fixed,
    saved,
    seeds_at_frames,
)
from benchmarks.claims.exits_left import Left, by_class, left
from benchmarks.claims.exits_runs import ABLATED, BACKBONES, BETA, MINUTES
from benchmarks.claims.judging import Rows, at_costs, beats, missing_runs, untested, verdict
from saccade.data.puppets_films import DIFFICULTIES

RENDERED = "Rendered films; small networks."
FILMS = (
    "Twelve classes of rendered films of 40 to 160 frames (1440 to train, 540 to test, 64x64, no codec): four that "
    "every frame tells, four told by a stretch of a third to six tenths, four by one moment, a tenth of the film: ten "
    "frames spread evenly meet it once, fewer may miss it"
)
NETWORK = (
    "A tiny ResNet (5.9 M macs a frame) from random weights, a layer of 256 neurons in place of 4096, T = 10, max "
    "pooling; 1600 steps of 16 films, the last quarter for the gates; for each other beta gates are learned anew on "
    "the same network. All frames is the same network without exits"
)
SAME = "The films and the network of F1"
GOAL, CLOSE = 2.0, 0.5  # our own: macs / 2 within half a point of all frames
PAPER_ACTIVITYNET = (1.58, 1.2)  # 41.2 / 26.1, and the points lost
PAPER_KINETICS = (2.09, 0.5)
PAPER_HVU = 2.2  # 41.2 / 18.7
COSTS = (1.6, 2.0, 3.0)  # at which rivals are held against it: the two of Table 1, and further
TABLE_6 = (3, 4, 6, 7)
LEVELLED = 0.5  # points that T = 16 may gain over T = 10
LOST, GAINED = 5.0, 1.0  # points: by leaving earlier at least, by leaving later at most


def f1(rows: Rows) -> Claim:
    """Long videos, mAP."""
    found = curves(rows, "films", accuracy="map")
    ratio, slack = PAPER_ACTIVITYNET
    return Claim(
        "F1",
        "Long videos: macs / 1.6 at a loss of 1.2 points of mAP",
        f"{FILMS}. {NETWORK}. By mAP",
        "ActivityNet, ResNet-50: 76.1@26.1 against 77.3@41.2 without exit; the released points 72.7@18.0, 73.9@19.9, "
        "75.4@23.8, 76.1@26.6, 76.4@29.1",
        f"{in_full(found, slack)}",
        verdict([reaches(found, slack, ratio)]),
        f"{RENDERED} The rule for yes: one beta divides the macs by at least {ratio} and loses at most {slack} points, "
        f"both on average over seeds. {goal(found)}",
        seeds(found),
    )


def f2(rows: Rows) -> Claim:
    """Short videos, top-1."""
    found = curves(rows, "films")
    real = curves(rows, "actions")
    ratio, slack = PAPER_KINETICS
    clips = f". Surveillance clips, top-1: {in_full(real, slack)}" if OURS in real else ""
    return Claim(
        "F2",
        "Short videos: macs / 2.1 at a loss of half a point of top-1",
        f"{SAME}, by top-1. Beside them real surveillance clips (fight or not; 180 to train, 60 to test), too few "
        "to judge by (one clip is 1.7 points), one seed; the model `actions` looks at motion instead (docs/exits.md)",
        "Mini-Kinetics, ResNet-50: 72.8@19.7 against 73.3@41.2 without exit",
        f"{in_full(found, slack)}{clips}",
        verdict([reaches(found, slack, ratio)]),
        f"{RENDERED} The rule for yes: one beta divides the macs by at least {ratio} and loses at most {slack} points. "
        f"{goal(found)}",
        seeds(found),
    )


def f3(rows: Rows) -> Claim:
    """Other backbones."""
    ratio, slack = PAPER_ACTIVITYNET
    texts: list[str] = []
    checks: list[bool | None] = []
    for backbone in BACKBONES:
        if missing_runs(rows, [f"films/{backbone}/"]):
            texts.append(f"{backbone} not trained, which takes a core {MINUTES[backbone]:.0f} minutes")
            checks.append(None)
            continue
        found = curves(rows, "films", base=backbone)
        best = max((saved(found, slack, method=method) or 0.0) for method in (OURS, THRESHOLDS))
        dense = mean(points[0].macs for points in found[ALL].values()) / 1e6
        texts.append(
            f"{backbone} ({dense:.0f} M macs): all frames {spread(all_frames(found))}, {every_setting(found, OURS)}, "
            f"gates' {every_setting(found, THRESHOLDS)}; within {slack} points {divided(best or None)}"
        )
        checks.append(best >= ratio)
    return Claim(
        "F3",
        "It works with other backbones",
        f"{SAME}, top-1, with backbones of timm and torchvision, from random weights and at 64x64, a quarter "
        f"of the side they are made for. One beta, {BETA['films']:g}; the gates are also asked at other thresholds",
        "EfficientNet-b3: ActivityNet 80.0@11.4 against 81.1@18.0, Mini-Kinetics 75.3@7.8 against 75.9@18.0; X3D-S: "
        "86.0@9.8 against 87.4@19.6",
        ". ".join(texts),
        verdict(checks),
        f"{RENDERED} One seed. The rule for each: one threshold of the gates divides the macs by at least {ratio} and "
        f"loses at most {slack} points. X3D-S was not trained.",
        1,
    )


def f4(rows: Rows) -> Claim:
    """Several labels."""
    found = curves(rows, "pairs")
    names = (f"average pooling, {ALL}", f"{POOLINGS['max']}, {ALL}")
    average, largest = all_frames(found), [p[0].accuracy for _, p in sorted(found[names[1]].items())]
    return Claim(
        "F4",
        "Several labels: less than half the macs, and average pooling better than max pooling",
        "Two of the films of F1 on end, which show one or two of the twelve classes; ten frames, five of each film. "
        "Average pooling, binary cross entropy. As F1, by mAP",
        "HVU, ResNet-50: 49.2@18.7 and 45.7@8.6, uniform frames averaged 44.7@41.2; EfficientNet-b3 47.7@11.7, "
        "46.1@5.7",
        f"{in_full(found, CLOSE)}; {names[0]} {spread(average)}, {names[1]} {spread(largest)}; "
        f"{every_setting(found, POOLINGS['max'])}",
        verdict([reaches(found, CLOSE, PAPER_HVU), mean(average) > mean(largest)]),
        f"{RENDERED} Five frames of a film miss one moment in two. The rules: within {CLOSE} points of all frames at "
        f"macs / {PAPER_HVU} (the paper has no number without exit); with all frames average pooling above max "
        "pooling. Uniform averaging was not trained on pairs.",
        seeds(found),
    )


def f5(rows: Rows) -> Claim:
    """Order of the frames."""
    found = curves(rows, "films")
    return Claim(
        "F5",
        "Coarse to fine beats the order of time and random order",
        f"{SAME}, trained and tested in each order, beta {BETA['films']:g}",
        "Table 3, ActivityNet: 76.1@26.1; in order of time 73.7@27.6; random in training, in testing, in both "
        "74.3@26.7, 74.4@27.0, 74.4@25.0",
        against_single(found, list(ORDERS.values())),
        verdict([ahead(found, OURS, other) for other in ORDERS.values()]),
        f"{RENDERED} {SINGLE} Moments lie anywhere in these films, so that no order finds them sooner.",
        seeds(found),
    )


def f6(rows: Rows) -> Claim:
    """Pooling of features."""
    found = curves(rows, "films")
    averaged = POOLINGS["pooling-none"]
    others = [name for name in POOLINGS.values() if name in found]
    return Claim(
        "F6",
        "Pooling features beats averaging predictions",
        f"{SAME}, beta {BETA['films']:g}; without pooling every classifier sees its frame alone, and the answer is the "
        "mean of their predictions. Average pooling has three seeds as well, LSTM and attention one",
        "Table 4, ActivityNet: 76.1@26.1 against 67.8@27.6",
        against_single(found, others),
        verdict([ahead(found, OURS, averaged)]),
        f"{RENDERED} {SINGLE} Only averaging predictions is judged; the paper has no numbers of other poolings.",
        seeds(found),
    )


def f7(rows: Rows) -> Claim:
    """Adaptive or fixed."""
    found = curves(rows, "films")
    gains = over_fixed(found)
    texts, checks = [], [mean(values) >= 0 for values in gains.values()]
    for frames in TABLE_6:
        adaptive, fixed = (seeds_at_frames(found, method, frames) for method in (OURS, BUDGET))
        texts.append(f"{frames} frames: {spread(fixed)} -> {spread(adaptive)}")
        if adaptive and fixed:
            checks.append(mean(adaptive) > mean(fixed))
    checks.append(mean(mean(values) for values in gains.values()) > 0 if gains else None)
    by_beta = "; ".join(f"{name} {signed(values)}" for name, values in gains.items())
    oracle = f". The oracle: {in_words(by_setting(found, ORACLE)[''])}" if ORACLE in found else ""
    return Claim(
        "F7",
        "Adaptive exits beat a fixed budget of as many frames",
        f"{SAME}. On the same network a budget of 1 to 10 frames; between two budgets, as between two betas, accuracy "
        "lies on a straight line over the mean frames",
        "Table 6, ActivityNet: 3 frames 60.8 -> 67.5, 4: 67.5 -> 70.1, 6: 74.0 -> 75.8, 7: 75.2 -> 76.4",
        f"fixed -> adaptive at {'; '.join(texts)}. Points over a fixed budget at the mean frames of {by_beta}{oracle}",
        verdict(checks),
        f"{RENDERED} The rules: not below the fixed budget for any beta, above it on average over them, and above it "
        "at those of the paper's four numbers of frames that lie between two betas.",
        seeds(found),
    )


def f8(rows: Rows) -> Claim:
    """Number of frames."""
    found = curves(rows, "films")
    base = by_setting(found, OURS)[f"beta {BETA['films']:g}"]
    by_count = {int(title.split()[-1]): by_setting(found, title)[""] for title in COUNTS.values()} | {10: base}
    means = {count: mean(item.accuracy for item in points) for count, points in by_count.items()}
    texts = [f"T = {count}: {in_words(by_count[count])}" for count in sorted(by_count)]
    return Claim(
        "F8",
        "More frames help up to T = 10",
        f"{SAME}, trained for each T with beta {BETA['films']:g}; accuracy and macs with exits, macs over those of ten "
        "frames",
        "Table 5, ActivityNet, T = 4, 8, 10, 16: 66.2@13.0, 74.3@22.4, 76.1@26.1, 76.1@35.1",
        "; ".join(texts),
        verdict([means[8] > means[4], means[10] > means[8], means[16] - means[10] <= LEVELLED]),
        f"{RENDERED} The rules: 8 above 4, 10 above 8, 16 at most {LEVELLED} points above 10. Ten frames are the "
        "fewest that are sure to meet a moment of a tenth.",
        seeds(found),
    )


def f9(rows: Rows) -> Claim:
    """Who leaves when."""
    bases = [row["measures"] for name, row in sorted(rows.items()) if name.startswith("films/base/")]
    every = [left(measures["left"]) for measures in bases]
    frames = {
        name: [measures["plain"][f"frames_{name}"] for measures in bases] for name in DIFFICULTIES
    }  # fmt: skip
    top = {name: [measures["plain"][f"top1_{name}"] for measures in bases] for name in DIFFICULTIES}
    early, late, lost, gained = (known(every, of) for of in ("early", "late", "lost_earlier", "gained_later"))
    easy, medium, hard = (mean(frames[name]) for name in DIFFICULTIES)
    kinds = "; ".join(f"{name} {spread(frames[name])} frames, {spread(top[name])} %" for name in DIFFICULTIES)
    return Claim(
        "F9",
        "Easy videos leave early and are right; leaving earlier than decided costs accuracy, later gains nothing",
        f"{SAME}, beta {BETA['films']:g}; early is at most half of the frames. Earlier, later: what classifiers "
        "before, after the one that answered say of the same videos, a mean over these classifiers",
        "Fig. 3, 4 and 5, without numbers in the text",
        f"left early ({spread(known(every, 'early_share'), 0)} % of the films) {spread(early)} % right, later "
        f"{spread(late)} %; earlier than decided loses {spread(lost)} points, later gains {spread(gained)}. {kinds}. "
        f"Frames by class (AP), seed {ABLATED}: {by_class(rows[f'films/base/{ABLATED}']['measures']['left'])}",
        verdict([
            mean(early) > mean(late) if early and late else None,
            mean(lost) >= LOST if lost else None,
            mean(gained) <= GAINED if gained else None,
            easy < medium < hard,
        ]),
        f"{RENDERED} The rules: early ones are right more often than late ones; leaving earlier loses at least "
        f"{LOST:g} points, later gains at most {GAINED:g}; frames rise from easy to medium to hard.",
        len(bases),
    )  # fmt: skip


def f10(rows: Rows) -> Claim:
    """Rivals at equal cost."""
    found = curves(rows, "films")
    there = [rival for rival in RIVALS if rival in found]
    checks = {(rival, ratio): beats(found, OURS, rival, ratio) for rival in there for ratio in COSTS}
    lost = [f"{rival} at macs / {ratio:g}" for (rival, ratio), won in checks.items() if won is False]
    judged = [won for won in checks.values() if won is not None]
    return Claim(
        "F10",
        "Better than later work, and than simpler rules, at equal cost",
        f"{SAME}, accuracy at equal macs, deciding included. Confidence on the same network as the gates. The others "
        "have its backbone and as many steps: predictions averaged over 1 to 10 frames, evenly or at random; frames "
        f"selected at once from a look at all of them in small, as many as it learned to select, and with another "
        "budget; a resolution chosen for each frame",
        "ActivityNet / Mini-Kinetics, ResNet-50: OCSampler 76.9@21.7, 72.9@17.5; Uni-AdaFocus 80.4@18.1, 75.7@18.1; "
        "FrameExit 76.1@26.1, 72.8@19.7; AR-Net 73.8@33.5, 71.7@32.0. AdaFocus reaches a real 2.6x throughput",
        at_costs(found, [OURS, *there], COSTS),
        verdict(judged),
        f"{RENDERED} The rule for yes: not below any of them at macs / {', / '.join(f'{cost:g}' for cost in COSTS)}; "
        "who is not as cheap has lost. A cost that neither reaches does not count. "
        f"{'Lost against: ' + ', '.join(lost) + '.' if lost else 'It loses against none.'} AdaFocus crops frames and "
        "is not among them; macs only, no times.",
        seeds(found),
    )


SINGLE = (
    "The rule: at the macs that the other takes with gates of the same beta, FrameExit, between its betas, is above it."
)


def seeds(found: Curves) -> int:
    """Returns how many networks stand behind FrameExit's numbers."""
    return len(found.get(OURS, {}))


def reaches(found: Curves, slack: float, ratio: float) -> bool:
    """Returns whether one setting of FrameExit is as cheap as that, and at most `slack` points below all frames."""
    best = saved(found, slack)
    return best is not None and best >= ratio


def divided(ratio: float | None) -> str:
    """Returns by how much macs are divided, in words."""
    return "never" if ratio is None else f"macs / {ratio:.2f}"


def goal(found: Curves) -> str:
    """Returns whether our own goal is reached."""
    there = "reached" if reaches(found, CLOSE, GOAL) else "not reached"
    return f"Our own goal, macs / {GOAL:g} within {CLOSE} points, is {there}."


def in_full(found: Curves, slack: float) -> str:
    """Returns all frames, what is saved within half a point and within `slack`, and every beta."""
    parts = [f"all frames {spread(all_frames(found))}"]
    parts += [f"within {near} points {divided(saved(found, near))}" for near in sorted({CLOSE, slack})]
    return "; ".join([*parts, every_setting(found, OURS)])


def against_single(found: Curves, others: Iterable[str]) -> str:
    """Returns methods of one setting each, what FrameExit has at their macs, and how all are with all frames."""
    parts = []
    for other in others:
        pairs = at_cost_of(found, OURS, other)
        ours = [own for own, _ in pairs if own is not None]
        same = spread(ours) if len(ours) == len(pairs) else "not as cheap"
        whole = spread([points[0].accuracy for points in found[f"{other}, {ALL}"].values()])
        parts.append(f"{other} {in_words(by_setting(found, other)[''])}, {OURS} there {same}; with all frames {whole}")
    own = in_words(by_setting(found, OURS)[f"beta {BETA['films']:g}"])
    return f"{OURS} itself {own}; with all frames {spread(all_frames(found))}. {'. '.join(parts)}"


def signed(values: list[float]) -> str:
    """Returns the mean of gains with a sign, and their range."""
    text = f"{mean(values):+.1f}"
    return text if len(values) == 1 else f"{text} ({min(values):+.1f} to {max(values):+.1f})"


def known(every: Iterable[Left], of: str) -> list[float]:
    """Returns one number of each network, without those that have no such videos."""
    return [getattr(item, of) for item in every if not math.isnan(getattr(item, of))]


# Runs without which a claim has nothing to say.
BASE = ("films/base/", "films/gates-")
NEEDS: dict[Callable[[Rows], Claim], tuple[str, ...]] = {
    f1: BASE,
    f2: BASE,
    f3: (f"films/{BACKBONES[0]}/",),
    f4: ("pairs/base/", "pairs/gates-", "pairs/max/"),
    f5: (*BASE, *(f"films/{order}/" for order in ORDERS)),
    f6: (*BASE, "films/pooling-none/"),
    f7: BASE,
    f8: ("films/base/", *(f"films/{run}/" for run in COUNTS)),
    f9: (f"films/base/{ABLATED}",),
    f10: (*BASE, "films/average/", "films/one-shot-", "films/resolution-"),
}
CLAIMS = tuple(NEEDS)


def judge(rows: Rows) -> list[Claim]:
    """Returns every claim; where runs are missing it is "not tested", and says which."""
    found = []
    for claim, starts in NEEDS.items():
        missing = missing_runs(rows, starts)
        found.append(untested(claim, missing) if missing else claim(rows))
    return found
