"""What a command raises when it was asked for something that cannot be done here."""

from __future__ import annotations


class UsageError(Exception):
    """Printed as one line, with exit code 2."""
