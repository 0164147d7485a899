"""Locality-sensitive hashing (LSH) attention."""
