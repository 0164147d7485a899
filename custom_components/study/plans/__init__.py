"""Runs of each study and collection of their results."""
