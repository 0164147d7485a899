"""Metrics of cases and data sets."""
