"""The checks that raise the one exception that users meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fca.errors import (
    InputError,
    at_least_one,
    check_choice,
    not_negative,
    printable,
    whole,
    whole_seed,
)


@pytest.mark.parametrize("number", [3, 3.0, np.float32(3), np.float64(3), np.int64(3), np.uint8(3)])
def test_whole_numbers_become_integers(number: Any) -> None:
    found = whole("n", number)
    assert found == 3
    assert type(found) is int
    for check in (at_least_one, not_negative):
        assert check("n", number) == 3
    assert whole("n", 10**400) == 10**400


@pytest.mark.parametrize(
    "value",
    [2.5, np.float32(2.5), np.nan, np.inf, np.float32("inf"), "3", None, True, np.bool_(1), 3 + 0j],
)
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="n must be a whole number, got"):
        whole("n", value)


@pytest.mark.parametrize("value", [0, -1, np.int64(0), np.float32(-2)])
def test_less_than_one_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="n must be at least 1, got"):
        at_least_one("n", value)


def test_less_than_none_is_refused() -> None:
    assert not_negative("n", 0) == 0
    with pytest.raises(InputError, match="n cannot be negative, got -1"):
        not_negative("n", -1)


@pytest.mark.parametrize("seed", [0, np.float64(1), -(2**62) + 1, 2**62 - 1])
def test_seeds_are_integers(seed: Any) -> None:
    assert whole_seed(seed) == seed
    assert type(whole_seed(seed)) is int


@pytest.mark.parametrize("seed", [2**62, -(2**62), 10**400])
def test_seeds_beyond_those_of_generators_are_refused(seed: int) -> None:
    with pytest.raises(InputError, match="the seed is too large"):
        whole_seed(seed)


def test_known_names_are_offered() -> None:
    check_choice("update", "em", ["em", "mu"])
    with pytest.raises(InputError, match=r"^unknown update 'x' of it; choose from em, mu$"):
        check_choice("update", "x", ["em", "mu"], " of it")


def test_names_with_commas_are_told_from_their_neighbours() -> None:
    with pytest.raises(InputError, match=r"choose from 'vae', 'vae, nmf', 'neural'$"):
        check_choice("source model", "x", ["vae", "vae, nmf", "neural"])


def test_messages_can_be_printed() -> None:
    """Bytes of a file name that are not UTF-8 are surrogates in Python."""
    name = b"a\xff \xc3\xa9.wav".decode("utf-8", "surrogateescape")
    assert printable(name) == "a%FF é.wav"
    assert str(InputError(f"{name}: no such file")) == "a%FF é.wav: no such file"
