"""Examples in, packed arrays and batches out. Which file does what:

types.py         Example, Task, Splits, TaskData: what everybody else sees
tasks.py         the registry of task names; load_task: a recipe's `task` section -> TaskData
read.py          a file -> text or a table, with the line numbers that errors name
tags.py          CoNLL columns -> sentences; schemes of entities -> BIO
glue.py          the nine GLUE tasks          crosslingual.py   PAWS-X, XNLI
ner.py           CoNLL-2003, WikiNEuRal       demo_sets.py      the built-in help desk
custom.py        your own files: to learn from, to score, to answer
hub.py           the same sets from the Hugging Face Hub
memory.py        rows in memory as a table, and what is guessed about one
known.py         what rows and lengths tell about a result already
split.py         hold-outs and subsets, seeded and stratified
encode.py        examples -> packed token ids; Batch
masking.py       masked inputs for plain text
batches.py       which examples make a batch: pure functions of (seed, epoch)
"""

from understudy.data.types import Example, Splits, Task, TaskData

__all__ = ["Example", "Splits", "Task", "TaskData"]
