"""What the command lines of the package and of the bundles have in common."""
