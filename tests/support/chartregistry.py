"""Charts in a registry, straight into a double's dictionaries."""

from __future__ import annotations

import json

from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import CHART_TYPES, CONFIG_TYPE
from mirrord.syncers.helm.transfer import oci_manifest
from mirrord.testing import Registry
from mirrord.testing.charts import Chart
from mirrord.wire.oci.descriptor import OCI_MANIFEST


def put_chart(registry: Registry, name: str, chart: Chart, tag: str = "") -> Digest:
    """Put a chart to `team/charts/<name>`, with a tag or without any, and return the digest of its manifest."""

    def blob(media_type: str, data: bytes) -> dict[str, object]:
        return {"mediaType": media_type, "digest": registry.content.put_blob(path, data), "size": len(data)}

    path = f"team/charts/{name}"
    config, layer = (
        blob(CONFIG_TYPE, oci_manifest.config_of(chart.metadata)),
        blob(CHART_TYPES[0], chart.data),
    )
    body = {"schemaVersion": 2, "config": config, "layers": [layer]}
    digest = Digest(registry.content.put_manifest(path, OCI_MANIFEST, json.dumps(body).encode()))
    if tag:
        registry.tags.setdefault(path, {})[tag] = digest
    return digest
