"""The activation and gate functions that a block may name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fpnas.errors import ConfigError, check_known

# Not in place: the caller may need the input, and autograd needs that of Swish.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "swish": nn.SiLU,
    "hswish": nn.Hardswish,
}

# What maps any number to a factor between 0 and 1.
GATES: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "hsigmoid": nn.Hardsigmoid,
}


def check_activation(name: str) -> None:
    """Raise ConfigError unless ``name`` is a key of ACTIVATIONS."""
    check_known(name, ACTIVATIONS, f"Unknown activation '{name}'", ConfigError)


def check_gate(name: str) -> None:
    """Raise ConfigError unless ``name`` is a key of GATES."""
    check_known(name, GATES, f"Unknown gate '{name}'", ConfigError)


def build_activation(name: str) -> nn.Module:
    """The activation called ``name``. Raises ConfigError on an unknown name."""
    check_activation(name)
    return ACTIVATIONS[name]()


def build_gate(name: str) -> nn.Module:
    """The gate called ``name``. Raises ConfigError on an unknown name."""
    check_gate(name)
    return GATES[name]()
