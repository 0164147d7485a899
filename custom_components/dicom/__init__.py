"""Reading DICOM: headers, pixels, series, studies, and selection of the chest CT series."""
