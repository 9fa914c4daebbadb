"""Deep hashing: hash centers, losses on logits, classical methods, a pure training step, batched encoding."""
