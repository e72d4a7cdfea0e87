"""Commands for keys of any type."""
