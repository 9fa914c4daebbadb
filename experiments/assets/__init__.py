"""Scripts that build the files which the package carries."""
