"""Transforms of both bundles."""
