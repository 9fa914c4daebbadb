"""Bytes at rest and in flight: weights, key files, messages, the store."""
