"""Checkpoints by parameter name, free of world size, of ZeRO stage and of DeepSpeed's own files.

pieces     ranges of parameters in safetensors files
layout     what lies where, what makes a step complete
"""
