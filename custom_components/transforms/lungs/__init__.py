"""Lungs: found by a network or by threshold and morphology, and told left from right."""
