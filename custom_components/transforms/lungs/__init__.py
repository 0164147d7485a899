"""Segment lungs by a network or by threshold and morphology, and separate left from right."""
