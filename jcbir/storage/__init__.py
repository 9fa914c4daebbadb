"""Bytes at rest and in flight: pictures, weights, key files, messages, the store."""
