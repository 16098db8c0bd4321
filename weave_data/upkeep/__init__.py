"""Living with a data set: what a build left behind, explained, compared, cleaned and corrected.

    explain   where every frame and sentence of a sample came from

Everything is answered from the store: manifests, plans, catalogs and `runs/`.
"""

from weave_data.upkeep.explain import Explanation, explain_sample

__all__ = ["Explanation", "explain_sample"]
