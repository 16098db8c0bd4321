"""How well a stored model answers questions about videos: offline, deterministic, resumable.

tasks        published question files -> Question        videomme, nextqa, mvbench, ..., one's own
asking_text  what is asked, and what an answer means
media        videos below --data, sampled as the run's were, in a process of their own
answering    a block of questions -> written answers and likelihoods of options
journal      blocks as they come: a killed evaluation goes on
scoring      exact, wups, caption metrics
intervals    bootstrap over videos
results      figures by mode and tag; report writes the table and the picture
run          blocks over ranks; publishing writes what comes out
compare      two evaluations, question by question
following    checkpoints as a run publishes them, and the curve of their scores
weights      which weights a model argument means
"""
