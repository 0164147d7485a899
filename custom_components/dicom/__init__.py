"""DICOM as it is met: headers, pixels, series, studies, and which series is the chest CT."""
