"""`check`: holds a model against a normalizer, and says what does not fit, by name."""
