"""Ignite handlers: checkpoints, weights, and the files of cases and data sets."""
