"""Reports: what was built, for people.

manifests ---> card            card.md, deterministic
samples -----> contact_sheet   a PNG of up to three woven samples
both --------> inspection      `weave-data inspect`: text, JSON, picture

the output alone:  stored, collage, histograms, thumbnails -> inputs -> page     report.html
"""

from weave_data.report.card import CARD_KEY, publish_card, render_card
from weave_data.report.contact_sheet import MAX_SAMPLES, write_contact_sheet
from weave_data.report.inputs import ReportInputs, read_inputs
from weave_data.report.inspection import (
    describe_output,
    describe_sample,
    inspect_output,
    output_json,
    pick_samples,
    sample_json,
)
from weave_data.report.page import REPORT_KEY, publish_report, render_report

__all__ = [
    "CARD_KEY",
    "MAX_SAMPLES",
    "REPORT_KEY",
    "ReportInputs",
    "describe_output",
    "describe_sample",
    "inspect_output",
    "output_json",
    "pick_samples",
    "publish_card",
    "publish_report",
    "read_inputs",
    "render_card",
    "render_report",
    "sample_json",
    "write_contact_sheet",
]
