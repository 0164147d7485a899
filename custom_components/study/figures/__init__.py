"""Figures of a study: of its results, or of its tables."""
