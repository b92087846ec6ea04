"""JSON Schema of a recipe, for editors and for `check-jsonschema`: what `understudy schema` prints.

It is made from the settings, with the short forms and the names of original scripts that recipes understand as well. It
knows less than `understudy check`: not what goes together, and not what is true of data and models.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from understudy.recipe.comparison import Comparison
from understudy.recipe.flags import original_flags
from understudy.recipe.method import methods

DRAFT = "http://json-schema.org/draft-07/schema#"
_SHORT = ("task", "teacher", "student", "method")


class _Generate(GenerateJsonSchema):
    """Settings that are read before they are validated take texts, lists and numbers too, unless they say what they take."""

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        found = super().function_before_schema(schema)
        section = found.get("type") == "object" or "$ref" in found
        if section or schema.get("json_schema_input_schema") is not None:
            return found
        also: list[JsonSchemaValue] = [{"type": ["string", "boolean", "number", "array"]}]
        if "oneOf" in found:  # sections of several kinds, each of which has more names than its own
            also.append({"type": "object"})
        return {"anyOf": [found, *also]}


def schema() -> dict[str, Any]:
    """The schema of a recipe, or of a comparison, as plain data."""
    made = Comparison.model_json_schema(mode="validation", schema_generator=_Generate)
    sections = made["properties"]
    for name, one in methods().items():
        section = made["$defs"][one.Settings.__name__]
        section["required"] = ["name"]
        section["properties"]["name"] = {"const": name, "description": one.summary}
        for key, sets in one.objective_keys.items():
            what = " and ".join(f"objective.{target}" for target in sets.targets) or "the method's own objective"
            section["properties"].setdefault(key, {"description": f"sets {what}"})
        for key in one.elsewhere:
            section["properties"].setdefault(key, {"description": "belongs to another section, and is put there"})
    for name in _SHORT:
        inner = {key: value for key, value in sections[name].items() if key not in ("description", "default")}
        sections[name] = {"anyOf": [{"type": "string"}, inner], "description": sections[name].get("description", name)}
    sections["track"] = {"anyOf": [{"type": "string"}, sections["track"]]}
    for flag in sorted(original_flags()):
        sections.setdefault(flag, {"description": "a flag of an original script"})
    sections["distiller"] = {"type": "object", "description": "flags of AutoMM, as in its scripts: distiller.temperature"}
    made["required"] = ["method"]  # a task, a teacher and a student may be named by flags of original scripts
    return {"$schema": DRAFT, **made, "title": "A recipe of understudy"}
