"""The optimiser BERT was released with, for comparisons with results of 2018 to 2020.

It is AdamW without bias correction: the first steps are short, because the moving averages start at zero, whatever the
warm-up does. Its epsilon is 1e-6. (AdamW corrects the averages; Zhang et al. 2021, "Revisiting few-sample BERT
fine-tuning", show that leaving it out makes small tasks unstable.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class BertAdam(torch.optim.Optimizer):
    """For each parameter w with gradient g, moments m and v, learning rate η and decay λ:

        m = β1 m + (1 - β1) g        v = β2 v + (1 - β2) g²        w = w - η (m / (√v + ε) + λ w)

    Args:
        params: parameters or groups, as for every torch optimiser; a group may have its own `weight_decay`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                mean, square = state["exp_avg"], state["exp_avg_sq"]
                mean.lerp_(parameter.grad, 1 - beta1)
                square.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-group["lr"])
        return loss
