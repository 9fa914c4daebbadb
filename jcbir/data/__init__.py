"""Photographs with labels: the bundled CIFAR-10 sample, folders, list files, packed sets, tensorflow-datasets, named splits."""
