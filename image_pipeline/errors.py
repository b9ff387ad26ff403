"""The one error that a person is shown without a traceback."""


class CommandError(Exception):
    """The command cannot go on; the message says why and what to do next, in one paragraph."""


class NotPermitted(CommandError):
    """AWS knows who asks, and does not let them."""
