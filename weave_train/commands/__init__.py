"""Commands of `weave-train` in files of their own.

ask, serve   generate, chat and serve: asking a stored model
evaluate     evaluate and compare: benchmarks' questions, answered and scored
launch       starts ranks on several hosts
doctor       looks before a run whether it has what it needs
flags        what several commands take
ranks        how local and Ray ranks are started
sweep        arms times seeds, compared
"""
