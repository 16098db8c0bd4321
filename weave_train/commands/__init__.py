"""Commands of `weave-train` that ask a model (generate, chat, serve) and that starts ranks (launch).

flags    what several commands take       ranks    how local and Ray ranks are started
"""
