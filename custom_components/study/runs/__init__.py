"""Runs of a study: execution, resuming and recognition of finished runs."""
