"""Reading the weights that come with Saccade."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from saccade.errors import FileFormatError

WEIGHTS_FOLDER = Path(__file__).parent / "weights"


def load_weights(model: nn.Module, path: Path, *, of: str, made_by: str) -> None:
    """Loads the weights of a network that comes with Saccade.

    Args:
        model: the network; it is changed.
        path: the safetensors file.
        of, made_by: what an error calls the network, and the command that makes such a file.

    Raises:
        FileFormatError: the file is missing, damaged or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    advice = f"reinstall saccade, or make the file anew with `{made_by}`"
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise FileFormatError(f"{path} is missing; expected the {of}'s weights; {advice}") from error
    except (SafetensorError, OSError) as error:
        raise FileFormatError(
            f"{path} is no safetensors file ({error}); expected the {of}'s weights; {advice}"
        ) from error
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in tensors.items()}
    wrong = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
    if wrong:
        name = wrong[0]
        raise FileFormatError(
            f"{path} holds another network: {len(wrong)} tensors differ, the first is {name}: got "
            f"{got.get(name, 'nothing')}, expected {expected.get(name, 'nothing')}; {advice}"
        )
    model.load_state_dict(tensors)
