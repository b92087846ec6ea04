"""A teacher that does not name its outputs: are they in the order of the task's labels?"""

from __future__ import annotations

import numpy as np

from understudy.base.errors import DataError
from understudy.data.encode import encode
from understudy.data.types import TaskData
from understudy.evaluate.predict import predict
from understudy.models.anatomy import anatomy
from understudy.models.model import Model

_ROWS = 128  # enough to tell orders apart, few enough to be answered on a processor in seconds


def require_order(model: Model, data: TaskData, *, max_length: int) -> None:
    """Refuse outputs that fit the selection rows far better in another order.

    Of all orders the best is found from the confusion matrix (an assignment problem). It is believed where it is right far more
    often than the order at hand (by three standard errors, and a sixth of the rows) and than always saying the commonest label.

    Raises:
        DataError: naming that order, as `task.labels`.
    """
    from scipy.optimize import linear_sum_assignment

    rows = [row for row in data.select if row.label is not None][:_ROWS]
    kind, labels = data.task.kind, data.task.labels
    if not rows or kind.distribution != "softmax":
        return
    length = min(max_length, anatomy(model.net).max_tokens(model.net))
    made = predict(model, rows, encode(rows, model.tokenizer, data.task, max_length=length))
    said, gold = (np.concatenate([np.atleast_1d(one) for one in part]) for part in (kind.decide(made.scores), made.gold))
    said, gold = said[said >= 0], gold[said >= 0]  # the others were cut off
    table = np.bincount(gold * len(labels) + said, minlength=len(labels) ** 2).reshape(len(labels), len(labels))
    label_of, output = linear_sum_assignment(-table)
    now, best, commonest = (part / len(gold) for part in (np.trace(table), table[label_of, output].sum(), table.sum(1).max()))
    if best - now > max(1 / 6, 3 * (best * (1 - best) / len(rows)) ** 0.5) and best > commonest + 1 / 6:
        order = [labels[i] for i in label_of[np.argsort(output)]]
        raise DataError(
            f"teacher.model: '{model.source}' does not name its labels, and as they stand ({', '.join(labels)}) it is right on "
            f"{100 * now:.0f} % of {len(rows)} selection rows; in another order on {100 * best:.0f} %. Give the order of its "
            f"outputs: task.labels: [{', '.join(order)}]."
        )
