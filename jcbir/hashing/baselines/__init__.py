"""Losses of the deep hashing methods that CSQ is compared with, one module a method, unreduced and on logits."""
