"""Files and folders that are there as a whole or not at all, and errors of disks in plain words."""
