"""What derivations are used for: the built-in rules, the command line and the reports."""
