"""What an `hf-remote` export ships: files that need transformers, torch and PIL, and nothing of ours.

    configuration_weave     towers, projector, language model
    modeling_weave          one or several ViTs, a projector, any causal language model
    processing_weave        frames and text to pixels and ids

They are copied as they are; nothing here imports `weave_train`.
"""
