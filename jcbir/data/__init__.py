"""Photographs with labels: the bundled CIFAR-10 sample, folders, lists, packed and tfds sets, named splits."""
