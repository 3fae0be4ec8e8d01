"""The one exception that users meet, the checks that raise it, and text for messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real

LARGEST_SEED = 2**62 - 1


class InputError(ValueError):
    """Input that cannot be processed; the message is one line that says what to change."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Text with ``%FF`` for a byte 0xFF of a file name that is not text in the system's encoding.

    Python has a lone surrogate there, which can be neither printed nor written.
    """
    return re.sub("[\ud800-\udfff]", lambda found: f"%{ord(found[0]) & 0xFF:02X}", text)


def counted(number: int, what: str) -> str:
    """The number and what there is of it, as "1 source" and "2 sources"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def check_choice(name: str, value: str, known: Iterable[str], of: str = "") -> None:
    """Raise :class:`InputError` if `value` is none of the `known`; `name` is what it chooses."""
    choices = list(known)
    if value not in choices:
        quoted = any("," in choice for choice in choices)
        listed = ", ".join(map(repr, choices) if quoted else choices)
        raise InputError(f"unknown {name} {value!r}{of}; choose from {listed}")


def offer(name: str, known: Iterable[str]) -> str:
    """What there is instead of something unknown, that of the most similar name first."""
    choices = list(known)
    similar = get_close_matches(name, choices, n=1)
    meant = f"did you mean {similar[0]!r}? " if similar else ""
    return f"{meant}it has {', '.join(choices)}"


def whole(name: str, value: float) -> int:
    """The value as an integer; :class:`InputError` if it is none, or a truth value."""
    number, integer = isinstance(value, Real), isinstance(value, Integral)  # NumPy's are, too
    if isinstance(value, bool) or not number or not (integer or float(value).is_integer()):
        raise InputError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def not_negative(name: str, value: float) -> int:
    """The value as an integer; :class:`InputError` if it is none, or negative."""
    number = whole(name, value)
    if number < 0:
        raise InputError(f"{name} cannot be negative, got {value}")
    return number


def at_least_one(name: str, value: float) -> int:
    """The value as an integer; :class:`InputError` if it is none, or less than one."""
    number = whole(name, value)
    if number < 1:
        raise InputError(f"{name} must be at least 1, got {value}")
    return number


def whole_seed(seed: float) -> int:
    """The seed as an integer; :class:`InputError` if it is none, or beyond :data:`LARGEST_SEED`."""
    number = whole("seed", seed)
    if abs(number) > LARGEST_SEED:
        raise InputError(f"the seed is too large: {seed}")
    return number
