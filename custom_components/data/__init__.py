"""What feeds a training: caches, draws and samplers."""
