"""S1 to S10: the claims of Skip-Convolutions, judged by rules written down here before the numbers were known."""

from __future__ import annotations

import itertools
import json

from benchmarks.claims.claim import Claim
from benchmarks.claims.curves import curves, mean, point, seeds_at, spread
from benchmarks.claims.judging import (
    NORMS,
    OURS,
    PAPERS,
    SLACK,
    Rows,
    at_costs,
    beats,
    cost_without_loss,
    on_average,
    ranked,
    seeds_of,
    verdict,
)
from benchmarks.claims.skip_runs import ABLATED
from benchmarks.environment import ROOT

GATED = ROOT / "benchmarks" / "results" / "gated.json"
RENDERED = "Rendered scenes; small networks."


def s1(rows: Rows) -> Claim:
    """Detection."""
    found = curves(rows, "street")
    ratio = on_average(found, OURS, slack=SLACK) or 1.0
    checks = [ratio >= 3.3, beats(found, OURS, "key frames", 3.0), beats(found, OURS, "Deep Feature Flow", 3.0)]
    rivals = at_costs(found, [OURS, PAPERS, "key frames", "Deep Feature Flow"], (2.0, 3.0))
    return Claim(
        "S1",
        "Detection: a third of the cost at equal AP; better than key-frame interleaving and Deep Feature Flow",
        "EfficientDet-tiny (52 M macs, 128x224) on 50 rendered street videos of 32 frames after H.264, a "
        "reference frame "
        "every 4; every method starts from the dense network and is tuned for 400 steps; dense is the better of "
        "the network itself and the same tuned as long",
        "D3 22.06 -> 6.36 GMAC, AP 62.3 -> 62.6; D0-D3 / 3.3-3.5",
        f"{cost_without_loss(found, 'street')}. {rivals}",
        verdict(checks),
        f"{RENDERED} With a reference frame every 4 no method can go beyond macs / 4.",
        seeds_of(rows, "street"),
    )


def s2(rows: Rows) -> Claim:
    """Pose."""
    puppets, mice = curves(rows, "puppets"), curves(rows, "openfield")
    checks = [
        (on_average(puppets, OURS) or 1.0) >= 2.0,
        (on_average(puppets, OURS, slack=SLACK) or 1.0) >= 4.0,
        (on_average(mice, OURS) or 1.0) >= 4.0,
    ]
    return Claim(
        "S2",
        "Pose: half the cost at a higher PCK@0.2, a factor of 4 at the original PCK",
        "HRNet-tiny (24 M macs, 96x96) on 60 rendered videos of 32 frames of a person acting, after H.264, a reference "
        "frame every 8; and on openfield (real): 23 pictures of one camera as one clip, 92 joints, a reference frame "
        "every 8. Dense as in S1",
        "HRNet-w32 on JHMDB: 10.19 -> 5.30 GMAC, 94.5 -> 95.1; / 4 at 94.5",
        f"puppets: {cost_without_loss(puppets, 'puppets')}. By PCK@0.1: "
        f"{cost_without_loss(ranked(rows, 'puppets'), 'puppets', 'PCK@0.1')}. openfield: "
        f"{cost_without_loss(mice, 'openfield')}. By PCK@0.1: "
        f"{cost_without_loss(curves(rows, 'openfield', accuracy='pck@0.1'), 'openfield', 'PCK@0.1')}",
        verdict(checks),
        f"{RENDERED} With a reference frame every 8 no method can go beyond macs / 8. Openfield's test set "
        "moves in steps "
        "of 1.1 points of PCK.",
        seeds_of(rows, "puppets"),
    )


def s3(rows: Rows) -> Claim:
    """The ranking of gates."""
    texts, checks = [], []
    for task, ratio in (("puppets", 3.0), ("street", 2.0)):
        found = ranked(rows, task)
        order = [OURS, PAPERS, NORMS["output-norm"], NORMS["input-norm"]]
        texts.append(f"{task}: {at_costs(found, order, (2.0, ratio) if ratio != 2.0 else (ratio,))}")
        best = OURS if beats(found, OURS, PAPERS, ratio) else PAPERS
        checks += [
            beats(found, best, NORMS["output-norm"], ratio),
            beats(found, NORMS["output-norm"], NORMS["input-norm"], ratio),
        ]
    return Claim(
        "S3",
        "Gumbel gates beat output-norm gates, which beat input-norm gates; norm gates need no training",
        "Accuracy at equal macs, between the measured settings of each gate (7 thresholds on the dense "
        "network, untuned; 3 "
        "or 2 weights of the gate loss)",
        "Fig. 7; D2 with output-norm 9.52 -> 6.03 GMAC at AP 61.2",
        ". ".join(texts),
        verdict(checks),
        f"{RENDERED} Puppets by PCK@0.1: at 0.2 all are alike. Norm gates in the refresh form, the better of the two "
        "for them. With one threshold for all layers the output-norm gate of the last layer, whose outputs are "
        "small, shuts first.",
        seeds_of(rows, "puppets"),
    )


def s4(rows: Rows) -> Claim:
    """Residuals against frames."""
    texts, checks = [], []
    for task, ratio in (("puppets", 2.0), ("street", 2.0)):
        found = ranked(rows, task)
        texts.append(f"{task}: {at_costs(found, [OURS, PAPERS, 'CC-image'], (1.5, ratio))}")
        checks.append(beats(found, OURS, "CC-image", ratio))
    return Claim(
        "S4",
        "Gates on residuals beat the same gates on raw frames (CC-image)",
        "The same Gumbel gates, losses and steps; CC-image computes z = g(x) . (w * x), without memory",
        "Fig. 5",
        ". ".join(texts),
        verdict(checks),
        f"{RENDERED} Puppets by PCK@0.1.",
        seeds_of(rows, "puppets"),
    )


def s5(rows: Rows) -> Claim:
    """Against compression, and with it."""
    found = ranked(rows, "puppets")
    small = ["spatial SVD", "weight SVD", "L0 pruning"]
    both = "spatial SVD + Gumbel on |r|"
    checks = [beats(found, OURS, name, 2.0) for name in small]
    checks += [beats(found, both, OURS, 6.0)]
    return Claim(
        "S5",
        "Better than spatial SVD, weight SVD and L0 channel pruning, and adds to spatial SVD",
        "HRNet-tiny on puppets; ranks by greedy search on 16 unlabelled pictures, then tuned as long as the "
        "gates; L0 with "
        "norms re-estimated on 48 pictures; SVD + gates: the SVD at half the macs, then gates",
        "Table 1: SVD 94.3@5.04, weight SVD 92.4@5.08, L0 92.1@4.57, Skip-Conv 95.1@5.30; Fig. 5",
        at_costs(found, [OURS, *small, both], (2.0, 3.0, 6.0)),
        verdict(checks),
        f"{RENDERED} By PCK@0.1.",
        seeds_of(rows, "puppets"),
    )


def s6(rows: Rows) -> Claim:
    """Blocks."""
    found = ranked(rows, "puppets")
    for title, seeds in curves(rows, "puppets").items():
        if "blocks" in title or title == OURS:
            found[f"{title}, PCK@0.2"] = seeds
    texts, checks = [], []
    for ratio in (3.0, 4.0):
        plain = mean(seeds_at(found, f"{OURS}, PCK@0.2", ratio) or [0.0])
        cells = [f"1x1 {plain:.1f}"]
        for side in (4, 8):
            here = seeds_at(found, f"blocks of {side}, PCK@0.2", ratio)
            cells.append(
                f"{side}x{side} {spread(here)} (PCK@0.1 {spread(seeds_at(found, f'blocks of {side}', ratio))})"
            )
            checks.append(bool(here) and mean(here) >= plain - 0.2)
        texts.append(f"at macs / {ratio:g}: {', '.join(cells)}")
    return Claim(
        "S6",
        "Block-structured gates cost no accuracy",
        "HRNet-tiny on puppets, gates on |r| in the refresh form, blocks of 4 and 8 with two weights of the gate loss, "
        "beside 1x1; PCK@0.2 at equal macs",
        "1x1 95.0@5.06 and 94.5@2.43, 4x4 94.9@2.98, 8x8 95.0@4.18 GMAC",
        "; ".join(texts),
        verdict(list(checks)),
        f"{RENDERED} The rule for yes: within 0.2 points of 1x1. At this size the finest maps are 24x24 "
        "and the coarsest 6x6, so a block of 8 is a ninth of a map or all of it; the paper's are 64x64. Blocks are not "
        "needed for speed here: scattered positions cost the engine no more.",
        seeds_of(rows, "puppets"),
    )


def s7(rows: Rows) -> Claim:
    """Clip lengths."""
    texts, drops = [], []
    for clip, method in ((4, "clip-4"), (8, "magnitude-refresh-0.1"), (16, "clip-16")):
        here = [row for name, row in sorted(rows.items()) if name.startswith(f"puppets/{method}/{ABLATED}")]
        if not here:
            continue
        cells = []
        for every in ("4", "8", "inf"):
            items = [point(row["measures"]["references"][every], "puppets") for row in here]
            accuracy, ratio = mean(item.accuracy for item in items), mean(item.ratio for item in items)
            cells.append(f"{accuracy:.1f} at / {ratio:.2f} (T_test {every})")
        ends = [row["measures"]["long_videos"] for row in here]
        first, last = (mean(end[part]["pck@0.2"] for end in ends) for part in ("first", "last"))
        drops.append(first - last)
        texts.append(
            f"T_train {clip}: {', '.join(cells)}; {ends[0]['frames']} frames with one reference frame: first tenth "
            f"{first:.1f}, last {last:.1f}"
        )
    dense = [row["measures"]["long_videos"] for name, row in rows.items() if name == f"puppets/tuned/{ABLATED}"]
    if dense and "first" in dense[0]:
        first, last = (mean(end[part]["pck@0.2"] for end in dense) for part in ("first", "last"))
        texts.append(f"dense: first tenth {first:.1f}, last {last:.1f}")
    return Claim(
        "S7",
        "Fewer reference frames are cheaper, at a small loss if trained on long clips",
        "HRNet-tiny on puppets, gates on |r|, refresh, beta 0.1, trained on clips of 4, 8 and 16 frames; 24 "
        "videos of 80 "
        "frames with one reference frame each",
        "T_train 8: 94.5@3.56, 94.5@2.43, 94.2@1.80 for T_test 4, 8, inf; T_train 4: 95.3, 94.3, 89.3",
        ". ".join(texts),
        verdict([drop <= 1.0 for drop in drops[1:]]),
        RENDERED,
        1,
    )


def s8(rows: Rows) -> Claim:
    """Wall clock."""
    known = json.loads(GATED.read_text())
    texts, checks = [], []
    for row in known["rows"]:
        if "hrnet" in row["network"]:
            texts.append(
                f"{row['gate']}, {row['form']}: macs / {row['macs_ratio']:.2f} -> time / {row['speed_up']:.2f} of "
                f"OpenVINO ({row['realised']:.2f} of the cut)"
            )
            checks.append(row["realised"] >= 0.9)
    return Claim(
        "S8",
        "What gates save in macs shows in wall-clock time, on a CPU",
        "HRNet-w32 with all convolutions gated at 256x256, the native engine on one thread, interleaved with "
        "dense OpenVINO "
        "float32 (python -m benchmarks.gated); gates included",
        "macs / 2.51, 4.33, 7.92 -> time / 1.48, 1.91, 4.09",
        "; ".join(texts) or "not measured",
        verdict(list(checks)),
        "The rule for yes: 0.9 of the cut in every row. A dense frame of our own engine takes a little "
        "longer than OpenVINO's.",
        0,
    )


def s9(rows: Rows) -> Claim:
    """Classification."""
    texts, checks = [], []
    for task, what in (("acts", "rendered actions"), ("fights", "real surveillance clips")):
        for segments in (25, 6):
            here = [key for key in rows if key.startswith(f"{task}/")]
            names = sorted({key.split("/")[1] for key in here if f"-{segments}" in key.split("/")[1]})
            cells, dense = [], 0.0
            for name in [name for name in names if name.startswith("tuned")] + [n for n in names if "magn" in n]:
                found = [rows[key]["measures"][f"classes_{segments}"] for key in here if f"/{name}/" in key]
                top, macs = [item["top1"] for item in found], mean(item["macs"] for item in found)
                cells.append(f"{name} {spread(top)} at {macs / 1e6:.0f} M macs")
                if name.startswith("tuned"):
                    dense, whole = mean(top), macs
                else:
                    checks.append(mean(top) >= dense - 1.0 and macs < whole)
            texts.append(f"{what}, TSN-{segments}: {', '.join(cells)}")
    return Claim(
        "S9",
        "Classification: cheaper at a minor loss of accuracy, more so with many frames",
        "TSN with a ResNet-10 of 19 M macs per frame: ten actions of rendered puppets (400 clips to train, 150 to "
        "test), and fight or no fight in 240 real clips split by blocks; 25 or 6 frames of about two seconds; gates on "
        "|r|, refresh",
        "TSN ResNet-101, JHMDB split 1: TSN-25 55.49@194.98 -> 54.77@41.02; TSN-6 53.84@46.80 -> 53.77@35.83 GMAC",
        ". ".join(texts),
        verdict(list(checks)),
        "The rule for yes: no gated setting loses more than a point. One seed. The real clips are not learned from 180 "
        "of them: the dense network answers as coins do, and accuracies say nothing (60 test clips: steps of 1.7 "
        "points).",
        seeds_of(rows, "acts"),
    )


def s10(rows: Rows) -> Claim:
    """Firing by depth and beta."""
    texts, checks = [], []
    shares = stage_shares(rows)
    for beta, stages in sorted(shares.items()):
        texts.append(f"beta {beta:g}: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in stages.items()))
        values = list(stages.values())
        checks.append(values[-2] < values[0])
    overall = [mean(stages.values()) for _, stages in sorted(shares.items())]
    checks.append(all(a > b for a, b in itertools.pairwise(overall)))
    return Claim(
        "S10",
        "Firing falls with depth and with beta",
        "HRNet-tiny on puppets, gates on |r|, refresh: mean share of positions computed per stage, reference "
        "frames left out",
        "Fig. 8: more than half skipped at 1e-5, 0.8-2.1 % of positions at 15e-5",
        "; ".join(texts),
        verdict(list(checks)),
        f"{RENDERED} Our task loss is scaled by 100, so our betas are not the paper's.",
        1,
    )


def stage_shares(rows: Rows, method: str = "magnitude-refresh-") -> dict[float, dict[str, float]]:
    """Returns by beta and stage of HRNet the mean share of positions computed."""
    stages = {"body.conv": "stem", "body.layer1": "stage 1", "body.transition1": "stage 1", "body.stage2": "stage 2"}
    stages |= {"body.transition2": "stage 2", "body.stage3": "stage 3", "head": "head"}
    found: dict[float, dict[str, list[float]]] = {}
    for name, row in rows.items():
        task, run, _ = name.split("/")
        if task != "puppets" or not run.startswith(method) or "shares" not in row["measures"]:
            continue
        here = found.setdefault(
            float(run.removeprefix(method)), {stage: [] for stage in dict.fromkeys(stages.values())}
        )
        for layer, share in row["measures"]["shares"]["layers"].items():
            here[next(stage for start, stage in stages.items() if layer.startswith(start))].append(share)
    return {beta: {stage: mean(values) for stage, values in by.items()} for beta, by in found.items()}


# Runs without which a claim has nothing to say.
NEEDS = {
    s1: ("street/dense/", "street/tuned/", "street/magnitude-refresh-"),
    s2: ("puppets/tuned/", "puppets/magnitude-refresh-", "openfield/tuned/", "openfield/magnitude-refresh-"),
    s3: ("puppets/tuned/", "puppets/magnitude-refresh-", "street/tuned/", "street/magnitude-refresh-"),
    s4: ("puppets/frames-", "street/frames-"),
    s5: ("puppets/spatial-svd-", "puppets/weight-svd-", "puppets/l0-", "puppets/svd+magnitude-"),
    s6: ("puppets/block-4-", "puppets/block-8-"),
    s7: ("puppets/clip-4/", "puppets/clip-16/"),
    s9: ("acts/tuned-25/", "fights/tuned-25/", "acts/magnitude-25-", "fights/magnitude-25-"),
    s10: ("puppets/magnitude-refresh-",),
}


def judge(rows: Rows) -> list[Claim]:
    """Returns the claims that enough was run for."""
    return [
        claim(rows)
        for claim in CLAIMS
        if all(any(name.startswith(start) for name in rows) for start in NEEDS.get(claim, ()))
        and (claim is not s8 or GATED.exists())
    ]


CLAIMS = (s1, s2, s3, s4, s5, s6, s7, s8, s9, s10)
