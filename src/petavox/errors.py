"""The errors petavox raises for its users.

What it is: one class per kind of trouble, each with the exit code that the command line gives.
What it is not: a place for messages. The sentence is written where the trouble is seen; it names
the key or file, the value, and a fix.
"""

from __future__ import annotations


class PetavoxError(Exception):
    """Base of all errors with a sentence a user can act on. `exit_code` is never 0."""

    exit_code = 1


class BadInput(PetavoxError):
    """A setting, path, file or volume cannot be used as given; nothing was started."""

    exit_code = 2


class AlreadyExists(BadInput):
    """The output is there already and may not be replaced without being told so."""


class NotComplete(PetavoxError):
    """A volume or table is being written, or its writer died; it is not a result."""

    exit_code = 3


class MissingDevice(PetavoxError):
    """A device was asked for that this machine does not have."""

    exit_code = 4


class WorkFailed(PetavoxError):
    """Work started and some of it could not be finished; what finished is kept."""

    exit_code = 5


class MissingExtra(PetavoxError):
    """An optional library is not installed; the sentence says how to install it."""

    exit_code = 6
