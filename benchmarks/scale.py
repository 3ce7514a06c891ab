"""What classifying a collection costs, from a sample of it: the constants of docs/scale.md, and its table.

saccade classify SAMPLE --model M --out sample.jsonl --threads 1 --workers 1     # nothing else on the machine
python -m benchmarks.scale sample.jsonl --videos 1000000 --start-up 10 --line-ms 0.5
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MACHINES = (1, 10, 100)


@dataclass(frozen=True)
class Constants:
    """Means over the videos of a sample that have an answer.

    Attributes:
        open_ms: of opening and indexing, per video.
        decode_ms: of seeking and decoding, per coded picture decoded.
        look_ms: of all else, per frame looked at: its way into the network, backbone, deciding.
        decoded: coded pictures decoded, per video.
        frames: looked at, per video.
        line_bytes: of results, per video.
    """

    open_ms: float
    decode_ms: float
    look_ms: float
    decoded: float
    frames: float
    line_bytes: float

    @classmethod
    def of(cls, texts: Iterable[str]) -> Constants:
        """Returns the constants of lines of `saccade classify`. Raises ValueError where no video has an answer."""
        sizes, lines = [], []
        for text in texts:
            line = json.loads(text)
            if "error" not in line:
                sizes.append(len(text.encode()))
                lines.append(line)
        if not lines:
            raise ValueError("no video of the sample has an answer; expected some")
        sums = {
            name: sum(line[name] for line in lines) for name in ("ms", "decode_ms", "index_ms", "decoded", "frames")
        }
        return cls(
            open_ms=sums["index_ms"] / len(lines),
            decode_ms=sums["decode_ms"] / max(1, sums["decoded"]),
            look_ms=(sums["ms"] - sums["decode_ms"] - sums["index_ms"]) / sums["frames"],
            decoded=sums["decoded"] / len(lines),
            frames=sums["frames"] / len(lines),
            line_bytes=sum(sizes) / len(sizes),
        )

    @property
    def video_ms(self) -> float:
        """Milliseconds of one core per video."""
        return self.open_ms + self.decoded * self.decode_ms + self.frames * self.look_ms

    def seconds(self, videos: int, *, workers: int, start_up: float, line_ms: float) -> float:
        """Returns how long so many videos take: what is slower, the workers or the driver, after starting up.

        Args:
            videos: in all.
            workers: processes, each with a core of its own.
            start_up: seconds until they all work.
            line_ms: milliseconds of the driver per line.
        """
        return start_up + videos * max(self.video_ms / workers, line_ms) / 1000


def table(constants: Constants, *, videos: int, cores: int, start_up: float, line_ms: float) -> str:
    """Returns the constants and what a collection costs, in Markdown."""
    rows = [
        "| per video | |",
        "|---|---|",
        f"| opening and indexing | {constants.open_ms:.1f} ms |",
        f"| decoding | {constants.decoded:.1f} pictures x {constants.decode_ms:.2f} ms |",
        f"| looking | {constants.frames:.2f} frames x {constants.look_ms:.1f} ms |",
        f"| **together** | **{constants.video_ms:.1f} ms of a core** |",
        f"| results | {constants.line_bytes:.0f} bytes |",
        "",
        f"| {videos:,} videos on | workers | hours | videos per second | of the driver |",
        "|---|---|---|---|---|",
    ]
    for machines in MACHINES:
        workers = machines * cores
        seconds = constants.seconds(videos, workers=workers, start_up=start_up, line_ms=line_ms)
        busy = min(1.0, videos * line_ms / 1000 / seconds)
        rows.append(
            f"| {machines} machine{'s' * (machines > 1)} of {cores} cores | {workers} | {seconds / 3600:.2f} "
            f"| {videos / seconds:,.1f} | {busy:.0%} |"
        )
    return "\n".join([*rows, "", f"Results: {videos * constants.line_bytes / 1e9:.2f} GB."])


def main() -> None:
    """Prints the table of a sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample", type=Path, help="what saccade classify wrote")
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--cores", type=int, default=2, help="of each machine")
    parser.add_argument("--start-up", type=float, required=True, help="seconds until the workers work")
    parser.add_argument("--line-ms", type=float, required=True, help="milliseconds of the driver per line")
    asked = parser.parse_args()
    constants = Constants.of(asked.sample.read_text(encoding="utf-8").splitlines())
    print(table(constants, videos=asked.videos, cores=asked.cores, start_up=asked.start_up, line_ms=asked.line_ms))


if __name__ == "__main__":
    main()
