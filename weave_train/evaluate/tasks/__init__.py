"""Readers of published question files, one a task: files as they were published -> `QuestionSet`.

videomme         Parquet of 2,700 rows; the paper's protocol: its prompt, the first letter A to D
nextqa           multiple choice, val.csv or test.csv
nextqa-oe        open ended; exact match and WUPS
mvbench          twenty JSON files
activitynet-qa   open ended; exact match (the published figures are a language model's judgement: not these)
captions         a woven data set's val split as JSON lines: {"id", "video", "captions": [...]}
tempcompass      multiple choice, yes or no, caption matching
egoschema        the 500 questions whose answers are published
mlvu             multiple choice
questions        one's own: questions.jsonl, see `plain`
"""
