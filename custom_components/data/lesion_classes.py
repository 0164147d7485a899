"""The label values of covid_seg_bundle (Chen et al. 2020, Sec. III-A) and the window its slices are seen in."""

# Names of label values 1, 2, 3; 0 is background.
LESION_CLASSES = ("ground_glass", "consolidation", "pleural_effusion")

# Pixels of this label count neither in the loss nor in a metric.
IGNORE_LABEL = 255

# Lung window (level -600, width 1500): HU range that 8-bit grey 0..255 stands for.
LUNG_WINDOW_HU = (-1350.0, 150.0)
