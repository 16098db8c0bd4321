"""Reports: what was built, for people.

manifests ---> card            card.md, deterministic
samples -----> contact_sheet   a PNG of up to three woven samples
both --------> inspection      `weave-data inspect`: text, JSON, picture
"""

from weave_data.report.card import CARD_KEY, publish_card, render_card
from weave_data.report.contact_sheet import MAX_SAMPLES, write_contact_sheet
from weave_data.report.inspection import (
    describe_output,
    describe_sample,
    inspect_output,
    output_json,
    pick_samples,
    sample_json,
)

__all__ = [
    "CARD_KEY",
    "MAX_SAMPLES",
    "describe_output",
    "describe_sample",
    "inspect_output",
    "output_json",
    "pick_samples",
    "publish_card",
    "render_card",
    "sample_json",
    "write_contact_sheet",
]
