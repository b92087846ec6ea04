"""Examples in, packed arrays and batches out. Which file does what:

types.py         Example, Task, Splits, TaskData: what everybody else sees
tasks.py         the registry of task names; load_task: a recipe's `task` section -> TaskData
read.py          a file -> text or a table, with the line numbers that errors name
cells.py         one cell -> a label, a score, a set of labels
tags.py          CoNLL columns -> sentences; IOB1, IOBES, BILOU -> BIO
glue.py          the nine GLUE tasks          crosslingual.py   PAWS-X, XNLI
ner.py           CoNLL-2003, WikiNEuRal       demo_sets.py      the built-in help desk
custom.py        your own files and columns   hub.py            the same sets from the Hugging Face Hub
rows.py          unlabelled rows to predict on
split.py         hold-outs and subsets, seeded and stratified
encode.py        examples -> packed token ids; Batch
masking.py       masked inputs for plain text
batches.py       which examples make a batch: pure functions of (seed, epoch)
"""

from understudy.data.types import Example, Splits, Task, TaskData

__all__ = ["Example", "Splits", "Task", "TaskData"]
