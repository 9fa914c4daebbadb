"""Tools that make what the package and its tests carry, and stamp a copy of the tree."""
