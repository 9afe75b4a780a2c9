"""How a command ends: what its exit code says, and the exceptions that lead there."""

import enum

__all__ = ["Exit", "UserError"]


class Exit(enum.IntEnum):
    """Exit codes of every command."""

    FINISHED = 0
    REFUSED = 2
    """Input or a folder that cannot be used; one sentence on stderr says why. Nothing was written."""
    DIVERGED = 3
    """A training or a chain diverged; the report is there, and says which."""
    STOPPED = 75
    """Stopped by SIGTERM, SIGUSR1 or SIGUSR2; the same command continues. The code means "try again" (EX_TEMPFAIL)."""
    INTERRUPTED = 130
    """Ctrl-C; the same command continues."""


class UserError(Exception):
    """Something the user gave cannot be used; its one sentence goes to stderr, and the exit code is 2."""
