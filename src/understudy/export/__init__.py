"""Students for people who do not have this package: `understudy export`, and the same as functions.

`make.py` writes, compares and names an export; `stock.py` turns any student into a stock network; `graph.py` makes ONNX;
`compare.py` runs both on real rows; `describe.py` writes the card.
"""

from understudy.export.make import FORMS, export_folder, export_model

__all__ = ["FORMS", "export_folder", "export_model"]
