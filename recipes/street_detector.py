"""Train the street detector that ships with Saccade: `python -m recipes.street_detector`.

Renders its own data (seeds below, disjoint for training, validation and test), sends it through H.264,
trains, and writes weights, log and a JSON record beside each other. The number of steps is fixed, so that a
run can be repeated; it took 44 minutes on two cores shared with other jobs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from recipes.street_losses import Truth, box_loss, make_targets, peak_loss
from saccade.data.street import CLASSES, StreetConfig, StreetLabels, encode_and_decode, render_street
from saccade.evaluate.detection import Detections, DetectionScores, average_precision
from saccade.zoo.street_detector import WEIGHTS, StreetDetector, decode, street_detector

TRAIN_SEED, VALIDATION_SEED, TEST_SEED, MOVING_SEED = 100_000, 200_000, 300_000, 400_000
HEIGHT, WIDTH = 256, 448
FRAMES, EVERY = 33, 8  # frames rendered per scene, and every how many-th is used
LEAST_VISIBLE = 0.25  # vehicles that show less are neither learnt nor counted
BOX_WEIGHT = 3.0

Sample = tuple[Tensor, Truth]


def scene(seed: int, kind: str) -> list[tuple[NDArray[np.uint8], StreetLabels]]:
    """Return some frames (H, W, 3) of one scene and their labels; kind is static, moving or mixed."""
    rng = np.random.default_rng([seed, 99])
    moving = kind == "moving" or (kind == "mixed" and rng.random() < 0.3)
    config = StreetConfig(
        seed=seed,
        frames=FRAMES,
        height=HEIGHT,
        width=WIDTH,
        jitter=float(rng.choice([0.0, 1.0, 2.0])) if moving else 0.0,
        pan=float(rng.uniform(-3, 3)) if moving else 0.0,
        noise=float(rng.uniform(1, 3)),
        traffic=float(rng.uniform(0.7, 1.5)),
    )
    video = encode_and_decode(render_street(config), crf=int(rng.integers(18, 29)))
    return [(video.frames[i], video.labels[i]) for i in range(0, FRAMES, EVERY)]


def scenes(first_seed: int, count: int, kind: str) -> list[Sample]:
    """Return the samples of `count` scenes, rendered by two processes."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        parts = pool.map(scene, range(first_seed, first_seed + count), [kind] * count, chunksize=4)
        return [sample(*pair) for part in parts for pair in part]


def sample(frame: NDArray[np.uint8], label: StreetLabels) -> Sample:
    """Return the frame as (3, H, W) uint8 and its truth."""
    hidden = torch.from_numpy(label.visible < LEAST_VISIBLE)
    truth = Truth(torch.from_numpy(label.boxes), torch.from_numpy(label.classes), hidden)
    return torch.from_numpy(frame).permute(2, 0, 1).contiguous(), truth


def batch(samples: list[Sample], rng: np.random.Generator) -> tuple[Tensor, list[Truth]]:
    """Return pictures (B, 3, H, W) in 0..1, flipped and lit at random, and their truths."""
    pictures, truths = [], []
    for picture, truth in samples:
        if rng.random() < 0.5:
            picture, truth = picture.flip(2), truth.mirrored(WIDTH)
        gain = torch.tensor(rng.uniform(0.75, 1.25) * rng.uniform(0.94, 1.06, 3), dtype=torch.float32)
        offset = float(rng.uniform(-0.08, 0.08))
        pictures.append((picture.float() / 255 * gain[:, None, None] + offset).clamp(0, 1))
        truths.append(truth)
    return torch.stack(pictures), truths


@torch.inference_mode()
def score(model: StreetDetector, samples: list[Sample]) -> DetectionScores:
    """Return the average precision of the model on the samples."""
    model.eval()
    predictions: list[Detections] = []
    for start in range(0, len(samples), 8):
        pictures = torch.stack([picture for picture, _ in samples[start : start + 8]]).float() / 255
        predictions += decode(model(pictures), score_threshold=0.05)
    targets = [Detections(t.boxes, torch.ones(len(t.boxes)), t.labels) for _, t in samples]
    return average_precision(predictions, targets, ignored=[truth.ignored for _, truth in samples])


def train(args: argparse.Namespace) -> None:
    begin = time.time()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(args.seed)
    training = scenes(TRAIN_SEED, args.scenes, "mixed")
    validation = scenes(VALIDATION_SEED, args.validation_scenes, "static")
    boxes = sum(len(truth.boxes) for _, truth in training)
    rendered = time.time()
    print(f"{len(training)} training frames, {boxes} boxes, {rendered - begin:.0f} s", flush=True)
    model = StreetDetector().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    heavy = [p for p in model.parameters() if p.ndim > 1]
    light = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": heavy, "weight_decay": 0.02}, {"params": light, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate)
    plan = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.rate, total_steps=args.steps, pct_start=0.05, cycle_momentum=False
    )
    args.weights.parent.mkdir(parents=True, exist_ok=True)
    log_path = args.weights.with_suffix(".log.csv")
    order: list[int] = []
    sums = np.zeros(2)
    with log_path.open("w", newline="") as file:
        log = csv.writer(file, lineterminator="\n")
        log.writerow(["step", "peak_loss", "box_loss", "validation_ap", "validation_ap50", "seconds"])
        for step in range(1, args.steps + 1):
            model.train()
            if len(order) < args.batch:
                order = rng.permutation(len(training)).tolist()
            pictures, truths = batch([training[order.pop()] for _ in range(args.batch)], rng)
            targets = make_targets(truths, classes=len(CLASSES), height=HEIGHT, width=WIDTH)
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                outputs = model(pictures.contiguous(memory_format=torch.channels_last))
            peak = peak_loss(outputs["scores"].float(), targets)
            box = box_loss(outputs["boxes"].float(), targets)
            optimizer.zero_grad(set_to_none=True)
            (peak + BOX_WEIGHT * box).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            plan.step()
            sums += (peak.item(), box.item())
            if step % args.log_every == 0 or step == args.steps:
                due = step % args.validate_every == 0 or step == args.steps
                scores = score(model, validation) if due else None
                row = [step, *(f"{x:.4f}" for x in sums / ((step - 1) % args.log_every + 1))]
                row += [f"{scores.ap:.4f}", f"{scores.ap50:.4f}"] if scores else ["", ""]
                log.writerow([*row, round(time.time() - begin)])
                file.flush()
                print(*row, f"{time.time() - begin:.0f} s", flush=True)
                sums[:] = 0
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, args.weights)
    args.weights.chmod(0o644)
    seconds = {"rendering": round(rendered - begin), "training": round(time.time() - rendered)}
    record(args, seconds)


def record(args: argparse.Namespace, seconds: dict[str, int]) -> None:
    """Evaluate the weights as written, on unseen scenes, and write the JSON record."""
    model = street_detector(weights=args.weights)
    results = {}
    for name, seed in (("static", TEST_SEED), ("moving", MOVING_SEED)):
        samples = scenes(seed, args.test_scenes, name)
        scores = asdict(score(model, samples))
        scores["per_class"] = {CLASSES[k]: value for k, value in scores["per_class"].items()}
        results[name] = {"scenes": args.test_scenes, "frames": len(samples), **scores}
        print(name, results[name], flush=True)
    about = {
        "arguments": {k: v for k, v in vars(args).items() if k != "weights"},
        "seeds": {
            "training": TRAIN_SEED,
            "validation": VALIDATION_SEED,
            "static": TEST_SEED,
            "moving": MOVING_SEED,
        },
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__,
        "wall_seconds": seconds,
        "test": results,
    }
    args.weights.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2800)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--validation-scenes", type=int, default=24)
    parser.add_argument("--test-scenes", type=int, default=60)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--validate-every", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    os.nice(5)
    train(args)


if __name__ == "__main__":
    main()
