"""Is everything there that a training run needs? Asked of its stores and of every node, before GPUs are held.

run       the checks of `weave_data.doctor` for the flags of a run, and those that only training has
weights   which files tower and language model are loaded from, as questions to the nodes
room      what a checkpoint takes, and how many frames a GPU asks for
"""

from weave_train.doctor.run import Hosts, examine_run

__all__ = ["Hosts", "examine_run"]
