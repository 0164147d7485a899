"""Drawings of images, masks, lesions and attention."""
