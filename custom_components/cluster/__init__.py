"""Apply a function to many cases, or run many commands, on the computers of a Ray cluster."""
