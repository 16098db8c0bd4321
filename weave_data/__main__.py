"""`python -m weave_data` is `weave-data`."""

from weave_data.cli import main

main()
