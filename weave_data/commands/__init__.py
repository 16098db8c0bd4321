"""Commands of `weave-data`, one file each; `register(app)` adds a file's command to the command line.

terminal   what they share: where to print, options, one-line errors
"""

__all__: list[str] = []
