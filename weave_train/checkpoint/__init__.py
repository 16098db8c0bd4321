"""Checkpoints by parameter name, free of world size, of ZeRO stage and of DeepSpeed's own files.

    writer       what training calls: a save costs one copy to host memory
    snapshot     that memory: files as they will be, shared without a name
    background   the process beside a rank that hashes and writes them
    commit       receipts of all ranks, complete.json, which checkpoints stay
    layout       what lies where in the run's store, disk or S3; which step is the newest
    pieces       ranges of parameters in safetensors files
    reading      pieces back to whoever holds those ranges now
    frozen       weights that are not trained, once per run
    run_files    the small files another machine needs
    prismatic    VideoWeave's latest-checkpoint.pt

`background` and what it imports load no torch, so nothing is imported here.
"""
