"""What every network made by another library shares: the same random weights each time, and kind errors."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from saccade.errors import ModelError

SEED = 0  # of the random weights; the same name always gives the same numbers
PRETRAINED = "@pretrained"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def split_pretrained(name: str) -> tuple[str, bool]:
    """Returns the name without `@pretrained`, and whether it was there."""
    return name.removesuffix(PRETRAINED), name.endswith(PRETRAINED)


def weights_origin(pretrained: bool, *, seed: int = SEED) -> str:
    """Returns where a network's numbers come from, in words."""
    return "pretrained" if pretrained else f"random, seed {seed}"


def check_variant(name: str, variant: str, known: Iterable[str], *, prefix: str, what: str) -> None:
    """Raises ModelError unless `variant` is one of those `known`; `what` is the network's name in words."""
    known = tuple(known)
    if variant in known:
        return
    near = difflib.get_close_matches(variant, known, n=1)
    hint = f" Did you mean {prefix}{near[0]}?" if near else ""
    if variant.removesuffix(PRETRAINED) in known:
        hint = f" It has no trained weights to download; leave {PRETRAINED} away."
    raise ModelError(f"{name}: there is no {what} {variant!r}; expected one of {', '.join(known)}.{hint}")


def check_classes(name: str, classes: int) -> None:
    """Raises ModelError below one class."""
    if classes < 1:
        raise ModelError(f"{name}: got {classes} classes; expected at least 1")


def create(name: str, pretrained: bool, make: Callable[[], nn.Module], *, library: str, seed: int = SEED) -> Any:
    """Returns the network in evaluation mode, the same each time; torch's random state is left as it was.

    Raises:
        ModelError: the library cannot make it, or its weights cannot be downloaded.
    """
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the library's own code is warned of
            torch.manual_seed(seed)
            return make().eval()
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"
        if pretrained:
            raise ModelError(
                f"{name}: its weights cannot be loaded ({reason}). Without {PRETRAINED} the same network comes with "
                "random weights and needs no network connection."
            ) from error
        raise ModelError(f"{name}: {library} cannot make it ({reason}).") from error
