"""Woven rows become encoded rows, encoded rows become batches.

prompt     conversations -> ids and labels, of `segments` in the strings of a `*_format` or a `chat_template`
placement  where frames stand in them
pixels     frames of any size -> uint8 squares
batch      both -> EncodedRow -> Batch
"""
