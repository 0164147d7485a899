"""Figures of a study, drawn from its results or its tables."""
