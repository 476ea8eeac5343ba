"""The one check of names: what was wrong, the nearest name, what is valid."""

from __future__ import annotations

import pytest

from fpnas.errors import ConfigError, UnknownNameError, check_known


def message(*args, **kwargs) -> str:
    with pytest.raises(UnknownNameError) as error:
        check_known(*args, **kwargs)
    return str(error.value)


def test_a_known_name_passes() -> None:
    check_known("b", ["a", "b"], "Unknown letter 'b'")
    check_known(["b"], (["a"], ["b"]), "Unknown list")


def test_the_message_names_the_nearest_and_all() -> None:
    assert message("sigmoyd", ("sigmoid", "tanh"), "Unknown gate 'sigmoyd'") == (
        "Unknown gate 'sigmoyd'. Did you mean 'sigmoid'? Valid: sigmoid, tanh."
    )
    assert message(3, ("sigmoid", "tanh"), "Unknown gate 3") == (
        "Unknown gate 3. Valid: sigmoid, tanh."
    )
    assert message("x", {}, "Unknown 'x'") == "Unknown 'x'. Valid: nothing yet."


def test_what_is_listed_and_what_is_near_can_be_chosen() -> None:
    assert message("sigmoyd", ["a"], "No", near=["sigmoid"], listed="a letter") == (
        "No. Did you mean 'sigmoid'? Valid: a letter."
    )
    assert message("x", ["abc"], "No", listed="") == "No."


def test_the_type_of_error_can_be_chosen() -> None:
    with pytest.raises(ConfigError, match="No 'x'"):
        check_known("x", ["y"], "No 'x'", ConfigError)
