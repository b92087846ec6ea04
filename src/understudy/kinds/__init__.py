"""What there is to know about each kind of task, one object and one file for each.

Everything that differs between kinds stands here: how labels are read and encoded, which head and loss they need, what the
outputs mean, how they are scored, and the words of reports and exports. The rest of the package asks a `Kind` and never
compares its name. Other packages add kinds through the entry-point group `understudy.kinds`.
"""

from understudy.kinds.kind import Kind, Label, every, kind, lower_is_better, of_checkpoint, sign_of

__all__ = ["Kind", "Label", "every", "kind", "lower_is_better", "of_checkpoint", "sign_of"]
