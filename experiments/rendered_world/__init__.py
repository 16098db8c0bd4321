"""A rendered world in which it is known what happens: clips to train on, videos to be asked about.

    (seed, index) -> script -> Film (scenes, events) -> planes -> mp4
                               Film -> captions | questions with answers

    attributes      colours, shapes, sizes, backgrounds, layouts, motions; what is held out
    records         Thing, Motion, Event, Place, Scene, Film: all that a picture or a sentence depends on
    draws           random numbers of one index
    words           sentences that are true of a scene, and the same facts in other words
    staging         things, places and events put together
    clips           training clips: one scene of 2 to 4 seconds
    sampling        what 16 frames of a film show: whether a question can be answered from them
    films           test videos of 3, 5 or 7 scenes, in families of three that differ in who plays what
    questions       questions about test videos, every answer right once in each family
    single_clip_qa  questions of the same wording about one training clip
    drawing         frames of a film, as planes
    output          files: WebVid catalog, conversations, questions.jsonl; many processes, resumable
    balance         who could answer without looking
    tower           a vision tower trained on single frames, and what probes read off it
    language        a small language model's configuration and tokenizer, the same for every arm
    sheet           a picture of some clips and videos

A film depends on (seed, stream, index) alone, drawing on nothing but the film: any index can be
rendered by itself, anywhere, and gives the same bytes. `datasheet.md` says what is in it and for whom.
"""
