"""Confidence intervals and tests of a study."""
