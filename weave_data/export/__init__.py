"""A published recipe in the forms that other tools read.

    <recipe> -> run -> videoweave    JSON + PNG tree       VideoWeave, Prismatic
                    -> sharegpt      JSON + image files    LLaMA-Factory, ms-swift
                    -> webdataset    tars                  any WebDataset reader
                    -> captions      JSON + image files    weave-train evaluate --task captions
               target    where it goes: claimed once, nothing overwritten unless equal
               files     what exported pictures are called, and pixels as PNG

Names say the beginning of the manifest's sha256, `export.json` says all of it. The same manifest gives the
same files; an export that was interrupted goes on after its last whole shard.
"""

from weave_data.export.run import EXPORT_FORMATS, ExportReport, export_recipe

__all__ = ["EXPORT_FORMATS", "ExportReport", "export_recipe"]
