"""The Lorenz image cipher as array programs. Seal images with `jcbir.sealing`, not with raw stages."""
