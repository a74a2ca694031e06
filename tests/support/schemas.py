"""Judges of documents for machines: the schema must have every key of them."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator, FormatChecker


def strict(schema: Any) -> Any:
    """Return a schema that refuses keys which it does not name: to clients new keys are fine, here they are missing."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) and "type" in schema else {}
    return {key: strict(value) for key, value in schema.items()} | closed


def judge(schema: Any, document: Any) -> None:
    """Fail unless a document is exactly what its schema says."""
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(strict(schema), format_checker=FormatChecker()).validate(document)


def of_api(openapi: Any, path: str) -> Any:
    """Return the schema of the answer at a path of an OpenAPI document."""
    answer = openapi["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    return {**answer, "components": openapi["components"]}
