"""The one exception that users meet."""

from __future__ import annotations


class InputError(ValueError):
    """Input that cannot be processed; the message is one line that says what to change."""
