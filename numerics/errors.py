"""The one exception with which the numeric layer turns away bad input."""


class InputRefused(ValueError):
    """Raised with one sentence that says what was expected, what came and what to do."""
