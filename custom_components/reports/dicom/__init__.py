"""Findings of one scan as DICOM objects."""
