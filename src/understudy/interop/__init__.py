"""Our objective inside a Trainer of transformers.

    trainer.py   DistilTrainer: a `transformers.Trainer` whose loss is an Objective
    pack.py      the padded batches that data collators make, as packed ones
    teach.py     what the teacher says about such a batch, and which teachers fit
    refuse.py    settings of the Trainer under which the loss would be wrong

A loop of your own needs none of this: docs/own-loop.md.
"""

from understudy.interop.teach import TwoTokenizers
from understudy.interop.trainer import DistilTrainer

__all__ = ["DistilTrainer", "TwoTokenizers"]
