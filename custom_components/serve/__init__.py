"""A page on this computer to drop scans on: `serve`."""
