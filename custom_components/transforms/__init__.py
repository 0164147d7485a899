"""Transforms that the bundles name."""
