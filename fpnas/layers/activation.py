"""The activation functions that a block may name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fpnas.errors import ConfigError, did_you_mean

# Not in place: the caller may need the input, and autograd needs that of Swish.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "swish": nn.SiLU,
    "hswish": nn.Hardswish,
}


def check_activation(name: str) -> None:
    """Raise ConfigError unless ``name`` is a key of ACTIVATIONS."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ConfigError(
            f"Unknown activation '{name}'.{did_you_mean(str(name), ACTIVATIONS)} "
            f"Valid: {', '.join(ACTIVATIONS)}."
        )


def build_activation(name: str) -> nn.Module:
    """The activation called ``name``. Raises ConfigError on an unknown name."""
    check_activation(name)
    return ACTIVATIONS[name]()
