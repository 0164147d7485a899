"""What both apps share: a DICOM study in, the bundle's own inference on its axial CT, a DICOM SEG out."""
