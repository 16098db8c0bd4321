"""The trainer that runs what `weave_data` compiles."""
