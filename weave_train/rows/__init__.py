"""Woven rows become encoded rows, encoded rows become batches.

prompt     conversations -> ids and labels
pixels     frames of any size -> uint8 squares
batch      both -> EncodedRow -> Batch
"""
