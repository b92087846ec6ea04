"""The methods, a folder each (see `recipe/method.py`). They never import each other."""
