"""l3net's manifest (deploy/l3net.yaml) for the lab's cluster, from standard input to standard output.

    manifest.py IMAGE SERVER

The image is on every node already, built there, so it is never pulled. Without kube-proxy agents and
controller reach the API server by the SERVER's own address, which the chart's value apiServer.host would say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import yaml

API_PORT = "6443"


def containers(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pod = document.get("spec", {}).get("template", {}).get("spec", {})
    yield from pod.get("initContainers", [])
    yield from pod.get("containers", [])


def adapt(document: dict[str, Any], image: str, server: str) -> dict[str, Any]:
    for container in containers(document):
        container["image"] = image
        container["imagePullPolicy"] = "Never"
        named = {"KUBERNETES_SERVICE_HOST": server, "KUBERNETES_SERVICE_PORT": API_PORT}
        kept = [entry for entry in container.get("env", []) if entry["name"] not in named]
        container["env"] = [*kept, *({"name": name, "value": value} for name, value in named.items())]
    return document


def main(image: str, server: str) -> None:
    documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
    yaml.safe_dump_all(
        [adapt(document, image, server) for document in documents], sys.stdout, sort_keys=False
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
