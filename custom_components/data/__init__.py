"""Caches, draws and samplers for training."""
