"""Commands that print the figures the documentation names."""
