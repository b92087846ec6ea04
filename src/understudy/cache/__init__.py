"""What a teacher says about examples: computed once, kept on disk, read by every student and every run.

A store holds the signals of one teacher in one arithmetic, by *example*: its key is the content of what the teacher reads
(and, where it speaks about some tokens only, which). So part of the rows, another order or one row more find what is
there, and the teacher runs on nothing else. Several processes, the ranks of a run among them, fill a store together.
To the training loop a cached and a live teacher look the same: `signals(rows)`.

Which bits are stored? A matrix product may round an example otherwise when it is computed among more or fewer rows, and
a store that is filled by whoever comes first must not depend on who that was. Therefore:

1.  An example is always computed among as many sequences of *its own length* as go with that length, a power of two
    under a budget of tokens; where there are not that many, some are repeated. Every shape of the forward pass follows
    from the example alone. Kernels treat the rows of one shape alike (seen on CPUs in fp32 and bf16, with one thread and
    with several; tests/unit/test_cache.py), so its bits follow from the example, the teacher and the arithmetic.
2.  What is computed together is planned from all that was asked for, not from what happens to be missing: a pass that was
    killed anywhere, or is shared by many processes, comes to the same batches even on a kernel that breaks rule 1.
3.  What is stored is never computed again, so runs that share a store always read the same numbers.

    fields.py    the signals by name, and how each is written: codecs
    store.py     the parts of a store on disk: what is there, who is at what
    signals.py   the live teacher, the pass that fills a store, the teacher that reads it
    aligned.py   a language model with another tokenizer, at the student's tokens
"""

from understudy.cache.signals import CachedTeacher, LiveTeacher, Several, SignalCache, Teacher, autocast, content_digest

__all__ = ["CachedTeacher", "LiveTeacher", "Several", "SignalCache", "Teacher", "autocast", "content_digest"]
