"""Google's published description of its APIs, to hold requests against.

The package google-api-python-client carries the documents; no code of its is used.
https://developers.google.com/discovery/v1/reference/apis
"""

from __future__ import annotations

import functools
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Unknown(Exception):
    """A request that the published description does not have; says what is wrong with it."""


@dataclass(frozen=True)
class Method:
    """A method: its id (`instances.insert`), what it is described with, its path's parameters."""

    id: str
    spec: dict[str, Any]
    path: dict[str, str]


class Api:
    """One API of a version, such as `compute.v1`."""

    def __init__(self, name: str) -> None:
        self._document = _read(name)
        self._methods: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for spec in _methods(self._document):
            path = spec.get("flatPath", spec["path"])
            key = (spec["httpMethod"], len(path.split("/")))
            self._methods.setdefault(key, []).append(spec)
        self.prefix = "/" + self._document["servicePath"]

    def method(self, verb: str, path: str) -> Method:
        """The method that a request calls.

        Args:
            verb: Such as `GET`.
            path: With the API's own prefix.

        Raises:
            Unknown: there is none.
        """
        if not path.startswith(self.prefix):
            raise Unknown(f"no path of the API begins like {path}")
        parts = path.removeprefix(self.prefix).split("/")
        for spec in self._methods.get((verb, len(parts)), []):
            named = _matched(spec.get("flatPath", spec["path"]).split("/"), parts)
            if named is not None:
                return Method(spec["id"].partition(".")[2], spec, named)
        raise Unknown(f"no method is called by {verb} {path}")

    def check(self, method: Method, query: dict[str, list[str]], body: Any) -> None:
        """Hold a request's parameters and body against the description.

        Raises:
            Unknown: it has something that the description lacks, or of another type.
        """
        known = {**self._document["parameters"], **method.spec.get("parameters", {})}
        for name, values in query.items():
            spec = known.get(name)
            if spec is None or spec.get("location") == "path":
                raise Unknown(f"{method.id} has no parameter {name}")
            if len(values) > 1 and not spec.get("repeated"):
                raise Unknown(f"{method.id}: the parameter {name} is not repeated")
            if spec["type"] == "integer" and not values[0].isdigit():
                raise Unknown(f"{method.id}: {name}={values[0]} is no whole number")
        wanted = method.spec.get("request")
        if wanted is None and body is not None:
            raise Unknown(f"{method.id} has no body")
        if wanted is not None:
            self._fits(body, wanted, method.id)

    def _fits(self, value: Any, spec: dict[str, Any], where: str) -> None:
        if "$ref" in spec:
            spec = self._document["schemas"][spec["$ref"]]
        kind = spec.get("type", "any")
        if kind != "any" and not isinstance(value, _TYPES[kind]):
            raise Unknown(f"{where} is {value!r}, not a JSON {kind}")
        if isinstance(value, bool) and kind in ("integer", "number"):
            raise Unknown(f"{where} is {value!r}, not a JSON {kind}")
        if "enum" in spec and value not in spec["enum"]:
            raise Unknown(f"{where}: {value!r} is none of {spec['enum']}")
        if kind == "array":
            for number, item in enumerate(value):
                self._fits(item, spec["items"], f"{where}[{number}]")
        if kind == "object":
            for name, item in value.items():
                inner = spec.get("properties", {}).get(name, spec.get("additionalProperties"))
                if inner is None:
                    raise Unknown(f"{where} has no field {name}")
                self._fits(item, inner, f"{where}.{name}")


_TYPES: dict[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "string": str,
}


@functools.cache
def api(name: str) -> Api:
    """The API of that name; read once."""
    return Api(name)


def _read(name: str) -> dict[str, Any]:
    spec = importlib.util.find_spec("googleapiclient")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "discovery_cache" / "documents"
    return dict(json.loads((folder / f"{name}.json").read_bytes()))


def _methods(resource: dict[str, Any]) -> list[dict[str, Any]]:
    found = list(resource.get("methods", {}).values())
    for inner in resource.get("resources", {}).values():
        found += _methods(inner)
    return found


def _matched(template: list[str], parts: list[str]) -> dict[str, str] | None:
    named = {}
    for wanted, part in zip(template, parts, strict=True):
        if not wanted.startswith("{"):
            if wanted != part:
                return None
            continue
        # `{resource}:testIamPermissions` has a verb after the name.
        name, _, verb = wanted[1:].partition("}")
        if not part or not part.endswith(verb) or (not verb and ":" in part):
            return None
        named[name] = part.removesuffix(verb) if verb else part
    return named
