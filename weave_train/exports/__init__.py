"""A run's weights in the forms that other programs load.

export          one run, one format, one directory or file
directory       whole or not there
plain           the model of a run with nothing on top: what every format writes
run_layout      config.json + checkpoints/latest-checkpoint.pt, as VideoWeave's runs lie
native_tower    timm's ViT in the names and shapes of transformers' CLIP and SigLIP
native          LlavaForConditionalGeneration: which models it can hold, its weights and configuration
vocabulary      `<image>` gets an id and an embedding row
chat            the run's prompt format as a chat template
pictures        the run's image transform as a preprocessor's configuration
compare         our model against the export as transformers loads it
card            README.md and export.json
"""
