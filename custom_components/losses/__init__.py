"""Losses of both papers."""
