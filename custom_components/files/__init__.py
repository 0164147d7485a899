"""Atomic writing of files and folders, and clear messages for disk errors."""
