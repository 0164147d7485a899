"""Trained weights: checkpoints, model cards, and checks of their values."""
