"""Models without outputs: backbones, as sentence encoders are, that have hidden states and nothing to predict with.

On plain text they can learn states, relations and features from a teacher. There is no label and no metric for them, so
what they are chosen and scored by is the objective itself, on rows that were not trained on.
"""

from __future__ import annotations

import numpy as np
import torch

from understudy.base.errors import RecipeError
from understudy.cache import Teacher
from understudy.data.encode import Encoded, collate
from understudy.lab.keys import safe
from understudy.models.model import Model
from understudy.models.signals import forward
from understudy.objective import Objective
from understudy.train.learner import count_step


def held_out_name(test: str) -> str:
    """The folder, inside a fit's, with the values on a test set."""
    return f"held-out-{safe(test)}"


def require_outputs(name: str, model: Model, objective: Objective, teacher: Model | None) -> None:
    """Refuse terms on outputs that are not there.

    Raises:
        RecipeError: naming the terms, the model and the remedy.
    """
    for who, of in (("student", model), ("teacher", teacher)):
        if of is None or not of.bare:
            continue
        asking = [
            term_name
            for term_name, term in objective.terms.items()
            if (term.needs_student if who == "student" else term.needs_teacher).logits
        ]
        if asking:
            raise RecipeError(
                f"{name}: {of.source} has no head on the vocabulary, which {', '.join(asking)} needs. Give a masked "
                "language model (a checkpoint saved as …ForMaskedLM), or learn from hidden states, relations or features "
                "alone."
            )


@torch.inference_mode()
def loss_by_row(model: Model, encoded: Encoded, objective: Objective, teacher: Teacher | None) -> np.ndarray:
    """(N,) float64: what each row adds to the objective, times N, so that their mean is the objective on all rows.

    With the weights of the end of training, in fp32. Terms that compare rows are left out.
    """
    objective = objective.separable_part()
    net = model.net.eval()
    device = next(net.parameters()).device
    counts = count_step(encoded, np.arange(len(encoded)))
    values = np.zeros(len(encoded))
    for i in range(len(encoded)):
        batch = collate(encoded, [i]).to(device)
        says = None if teacher is None else teacher.signals([i]).map(lambda tensor: tensor.to(device))
        said = forward(net, batch, objective.needs_student, kind=model.kind)
        values[i] = float(objective.compute(said, says, batch.labels, progress=1.0, counts=counts)[0])
    return values * len(encoded)
