"""Shared by both apps: read a DICOM study, run the bundle's inference on its axial CT, write a DICOM SEG."""
