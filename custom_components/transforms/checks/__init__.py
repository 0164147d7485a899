"""What is refused, or warned of, before a result depends on it."""
