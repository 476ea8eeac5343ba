"""The activation and gate functions that a block may name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from fpnas.errors import ConfigError, did_you_mean

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
    _check(name, "activation", ACTIVATIONS)


def check_gate(name: str) -> None:
    """Raise ConfigError unless ``name`` is a key of GATES."""
    _check(name, "gate", GATES)


def build_activation(name: str) -> nn.Module:
    """The activation called ``name``. Raises ConfigError on an unknown name."""
    check_activation(name)
    return ACTIVATIONS[name]()


def build_gate(name: str) -> nn.Module:
    """The gate called ``name``. Raises ConfigError on an unknown name."""
    check_gate(name)
    return GATES[name]()


def _check(name: str, kind: str, valid: Mapping[str, object]) -> None:
    if not isinstance(name, str) or name not in valid:
        raise ConfigError(
            f"Unknown {kind} '{name}'.{did_you_mean(str(name), valid)} Valid: {', '.join(valid)}."
        )
