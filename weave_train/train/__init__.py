"""A run from its configuration to its last step.

prepare, resume -> loop -> objective, schedule      run_directory: what lies where
"""
