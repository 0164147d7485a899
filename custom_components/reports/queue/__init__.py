"""The overview of all cases of a folder of `diagnose`: overview.html and overview.csv."""
