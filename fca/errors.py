"""The one exception that users meet, and the check that raises it for names."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be processed; the message is one line that says what to change."""


def check_choice(name: str, value: str, known: Iterable[str], of: str = "") -> None:
    """Raise :class:`InputError` if `value` is none of the `known`; `name` is what it chooses."""
    choices = list(known)
    if value not in choices:
        raise InputError(f"unknown {name} {value!r}{of}; choose from {', '.join(choices)}")
