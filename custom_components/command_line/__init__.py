"""Parts shared by the command lines of the package and the bundles."""
