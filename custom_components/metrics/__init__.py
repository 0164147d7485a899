"""Scores of cases and of data sets."""
