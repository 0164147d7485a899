"""Checks of scans, labels and predictions."""
