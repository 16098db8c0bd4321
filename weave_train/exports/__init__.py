"""A run's weights in the forms that other programs load.

export          one run, one format, one directory or file
directory       whole or not there
plain           the model of a run with nothing on top: what every format writes
run_layout      prismatic: config.json + checkpoints/latest-checkpoint.pt, as VideoWeave's runs lie

form            what a format of transformers is to the exporter
native_form     hf: LlavaForConditionalGeneration, without code of ours
native            which models it can hold, its configuration and weights
native_tower      timm's ViT in the names and shapes of transformers' CLIP and SigLIP
pictures          the run's image transform as a preprocessor's configuration
remote_form     hf-remote: everything else, with code of its own
remote_code       that code
members         a tower's ViTs, each with how it wants its frames
vocabulary      `<image>` gets an id and an embedding row
chat            the run's prompt format as a chat template
files           weights and generation_config.json
compare         our model against the export as transformers loads it
card            README.md and export.json
"""
