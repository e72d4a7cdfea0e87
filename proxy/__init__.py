"""Everything that faces outwards: command line, supervisor, listeners, clients' sessions, routing,
coordination."""
