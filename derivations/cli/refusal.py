"""The exception with which the command line turns away what it cannot do."""


class CommandRefused(ValueError):
    """Raised with one sentence that says what was expected, what came and what to do."""
