"""Commands of `weave-train` that ask a model: generate, chat, serve."""
