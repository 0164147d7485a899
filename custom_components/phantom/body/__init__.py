"""The parts of a synthetic chest, painted in mm."""
