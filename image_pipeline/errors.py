"""Errors that the command reports as one message, without a traceback."""


class CommandError(Exception):
    """The command cannot continue; the message says why and what to do next, in one paragraph."""


class NotPermitted(CommandError):
    """AWS accepts the credentials but denies the request."""


class PartFailed(CommandError):
    """A part of a deployed stack is missing, disabled or paused; `status` says which, and why."""
