"""Read, compare (in world space) and write CT images and masks."""
