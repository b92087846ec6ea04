"""Makes networks with a structure known to transformers' Auto classes, without importing transformers before its time.

`install` is called by `import understudy`, and costs nothing: where transformers has not got to its Auto classes yet, it
leaves word to be called when it does. The classes of a family's models are made when its first configuration is read.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import PathFinder
from typing import Any

AUTO = "transformers.models.auto.configuration_auto"


def install() -> None:
    """Register now if transformers' Auto classes are loaded, else as soon as they are. Calling it again does nothing."""
    if AUTO in sys.modules:
        register_configs()
    elif not any(isinstance(finder, _AfterAuto) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterAuto())


class _AfterAuto:
    """Finds one module, the way it is always found, and registers when it has been run."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != AUTO:
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module

            def exec_module(module: Any) -> None:
                run(module)
                register_configs()

            loader.exec_module = exec_module
        return spec


FAMILIES = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "albert", "deberta-v2", "modernbert")
"""The families of anatomy.py, which would bring torch along."""


def register_configs() -> None:
    """Tell AutoConfig of `understudy-bert` and its relatives."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for family in FAMILIES:
        stand_in: Any = _OnDemand(family)
        CONFIG_MAPPING.register(f"understudy-{family}", stand_in, exist_ok=True)


class _OnDemand:
    """Stands for a configuration class until it is used: transformers cannot import BERT's this early."""

    def __init__(self, family: str) -> None:
        self._family = family

    def __call__(self, **settings: Any) -> Any:
        return self._made()(**settings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._made(), name)

    def _made(self) -> Any:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        from understudy.models.compact import config_class_of

        return config_class_of(CONFIG_MAPPING[self._family])


@cache
def register_models(family: str) -> None:
    """Tell the Auto classes of a family's models: bare, masked language model, sequence and token heads."""
    import transformers as hf

    from understudy.models.compact import config_class_of, model_class_of

    stock = hf.CONFIG_MAPPING[family]
    for auto in (
        hf.AutoModel,
        hf.AutoModelForMaskedLM,
        hf.AutoModelForSequenceClassification,
        hf.AutoModelForTokenClassification,
    ):
        auto.register(config_class_of(stock), model_class_of(auto._model_mapping[stock]), exist_ok=True)
