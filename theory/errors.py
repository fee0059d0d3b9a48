"""The one exception with which the symbolic layer turns away what the theory does not cover."""


class RuleRefused(ValueError):
    """Raised with one sentence that names the offending term and says why it does not fit."""
