"""DeepSpeed around the trained part of a model."""
