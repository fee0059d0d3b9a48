"""The built-in optimizers, one file each; found by scanning this package, so adding a rule means adding a file."""
