"""A bill of materials in CycloneDX 1.6, and the texts of all licences; the same bytes for the same wheels.

The format: https://cyclonedx.org/docs/1.6/json/. It has no serial number and no time of its own, which it
may leave out: a file that is rebuilt is the same file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from packaging.requirements import InvalidRequirement, Requirement

from halfsync.build.project import normal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from halfsync.build.distributions import Wheel

    Environments = Sequence[Mapping[str, str]]

RULE = "=" * 100


def bill(
    name: str, version: str, requirements: Sequence[str], wheels: Sequence[Wheel], environments: Environments
) -> str:
    """Return the bill of a service as JSON.

    :param requirements: what the service itself asks for.
    :param environments: the markers' values on each target that the file is for (PEP 508).
    """
    by_name: dict[str, list[Wheel]] = {}
    for wheel in wheels:
        by_name.setdefault(wheel.name, []).append(wheel)
    refs = {each: _purl(found[0]) for each, found in by_name.items()}
    root = f"pkg:generic/{quote(name)}@{quote(version)}"
    needs = _dependencies(requirements, by_name, environments)
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": name,
                "version": version,
                "purl": root,
            }
        },
        "components": [_component(refs[each], by_name[each]) for each in sorted(by_name)],
        "dependencies": [
            {"ref": root, "dependsOn": sorted(refs[each] for each in needs[""])},
            *(
                {"ref": refs[each], "dependsOn": sorted(refs[other] for other in needs.get(each, ()))}
                for each in sorted(by_name)
            ),
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def licenses(wheels: Sequence[Wheel]) -> str:
    """Return the licence texts of all distributions as one text."""
    parts: dict[tuple[str, str], str] = {}
    for wheel in wheels:
        texts = [f"--- {name}\n\n{text.strip()}\n" for name, text in wheel.licenses.items()]
        said = wheel.license or "not told"
        body = "\n".join(texts) or "The distribution brings no text of its licence.\n"
        parts[wheel.name, wheel.version] = f"{RULE}\n{wheel.name} {wheel.version}: {said}\n{RULE}\n\n{body}"
    return "\n".join(parts[each] for each in sorted(parts))


def _component(ref: str, wheels: Sequence[Wheel]) -> dict[str, Any]:
    first = wheels[0]
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": ref,
        "name": str(first.metadata["Name"]),
        "version": first.version,
    }
    if summary := first.metadata.get("Summary"):
        component["description"] = str(summary)
    if expression := first.metadata.get("License-Expression"):
        component["licenses"] = [{"expression": str(expression)}]
    elif first.license:
        component["licenses"] = [{"license": {"name": first.license}}]
    component["purl"] = ref
    # One distribution is several wheels in a file for several platforms, each with a hash of its own.
    files = [
        {
            "type": "file",
            "bom-ref": f"{ref}#{wheel.file}",
            "name": wheel.file,
            "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        }
        for wheel in wheels
        if wheel.file
    ]
    return component | ({"components": files} if files else {})


def _purl(wheel: Wheel) -> str:
    # An index takes no version with a local label: that wheel came with the service.
    kind = "generic" if "+" in wheel.version else "pypi"
    return f"pkg:{kind}/{quote(wheel.name)}@{quote(wheel.version, safe='')}"


def _dependencies(
    requirements: Sequence[str], present: Mapping[str, Sequence[Wheel]], environments: Environments
) -> dict[str, set[str]]:
    """Return what each distribution needs of those present, extras included; the service itself is ""."""
    needs: dict[str, set[str]] = {"": set()}
    todo = [("", "", text) for text in requirements]
    seen: set[tuple[str, str]] = set()
    while todo:
        of, extra, text = todo.pop()
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # metadata of another time; what it needs is in the lock all the same
        name = normal(requirement.name)
        holds = requirement.marker is None or any(
            requirement.marker.evaluate({**each, "extra": extra}) for each in environments
        )
        if name not in present or not holds:
            continue
        needs.setdefault(of, set()).add(name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                metadata = present[name][0].metadata
                todo += [(name, wanted, each) for each in metadata.get_all("Requires-Dist", ())]
    return needs
