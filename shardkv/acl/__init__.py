"""Users, and what they may do: rules in, decisions out. Nothing here does I/O.

`rules` holds what one set of rules allows, `users` who there is, `permissions` decides about requests,
`changes` is how all processes come to have the same users.
"""
