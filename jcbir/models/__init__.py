"""Residual networks, their pretrained weights and the preprocessing that belongs to them."""
