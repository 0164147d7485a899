"""CT and masks as arrays: reading, geometry in world space, writing."""
