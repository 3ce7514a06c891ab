"""A tiny font, 3 x 5 points a letter: enough for a class name and a number, without a font file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Five rows from top to bottom, each an octal digit whose bits are the points from left to right.
_ROWS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757",
    "7": "71122", "8": "75757", "9": "75717", "A": "25755", "B": "65656", "C": "34443", "D": "65556",
    "E": "74647", "F": "74644", "G": "34553", "H": "55755", "I": "72227", "J": "11152", "K": "55655",
    "L": "44447", "M": "57755", "N": "65555", "O": "25552", "P": "65644", "Q": "25563", "R": "65655",
    "S": "34216", "T": "72222", "U": "55557", "V": "55552", "W": "55775", "X": "55255", "Y": "55222",
    "Z": "71247", "%": "51245", ".": "00002", ",": "00024", ":": "02020", "-": "00700", "+": "02720",
    "/": "11244", "_": "00007", "(": "12221", ")": "42224", " ": "00000", "?": "71202",
}  # fmt: skip


def text_points(text: str, *, scale: int = 1) -> NDArray[np.bool_]:
    """Returns the points of a text, bool (5 * scale, 4 * scale * len(text)), with a gap after each letter.

    Letters are drawn as capitals; what the font lacks as a question mark.
    """
    columns = [_glyph(letter) for letter in text.upper()]
    points = np.concatenate(columns, axis=1) if columns else np.zeros((5, 0), dtype=bool)
    return points.repeat(scale, axis=0).repeat(scale, axis=1)


def _glyph(letter: str) -> NDArray[np.bool_]:
    rows = _ROWS.get(letter, _ROWS["?"])
    return np.array([[int(row) >> bit & 1 for bit in (2, 1, 0, -1 + 4)] for row in rows], dtype=bool)
