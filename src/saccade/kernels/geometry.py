"""How far a channel axis and a reshape's dimensions can be followed through an operator."""

from __future__ import annotations

from collections.abc import Sequence


def dimension_groups(source: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Returns which dimensions of a reshape's source become which of its target.

    Each pair (source axes, target axes) has equal products and cannot be split further. Trailing axes of size 1
    join the last pair.
    """
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) and j < len(target):
        left, right = [i], [j]
        product_left, product_right = source[i], target[j]
        while product_left != product_right:
            if product_left < product_right:
                i += 1
                left.append(i)
                product_left *= source[i]
            else:
                j += 1
                right.append(j)
                product_right *= target[j]
        groups.append((left, right))
        i, j = i + 1, j + 1
    if groups:
        groups[-1][0].extend(range(i, len(source)))
        groups[-1][1].extend(range(j, len(target)))
    return groups


def axis_after_reshape(source: Sequence[int], target: Sequence[int], axis: int | None) -> int | None:
    """Returns where the channel axis lands in a reshape: the innermost target axis of its group, or None."""
    if axis is None or 0 in source:
        return None
    for left, right in dimension_groups(source, target):
        if axis in left:
            wide = [j for j in right if target[j] > 1]
            return (wide or right)[-1]
    return None
