"""Intervals and tests of a study, by patient."""
