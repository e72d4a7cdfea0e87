"""The data structures behind the types: what a key can hold beside a string."""
