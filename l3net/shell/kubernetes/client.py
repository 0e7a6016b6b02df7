"""The parts of the official client that are used, without all that its packages gather.

`import kubernetes` brings 20 MiB of typed models, watchers, informers and what these need; l3net reads
configurations with it and makes connections. The packages' own modules run only when something of theirs is
asked for that is not here, so that whoever else imports them finds them whole.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any, Final

_PACKAGES: Final = ("kubernetes", "kubernetes.client", "kubernetes.config", "kubernetes.utils")


def _deferred(name: str) -> None:
    """Have the package, whose __init__ runs at the first question that it alone can answer."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"No module named {name!r}", name=name)
    module, loader = importlib.util.module_from_spec(spec), spec.loader

    def ask(attribute: str) -> Any:
        module.__dict__.pop("__getattr__", None)
        loader.exec_module(module)
        return getattr(module, attribute)

    module.__dict__["__getattr__"] = ask
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def _part(name: str) -> ModuleType:
    for package in _PACKAGES:
        _deferred(package)
    return importlib.import_module(name)


def configuration_type() -> Any:
    """kubernetes.client.Configuration. Raises ImportError where the client is not installed."""
    found = _part("kubernetes.client.configuration").Configuration
    sys.modules["kubernetes.client"].__dict__.setdefault(
        "Configuration", found
    )  # the loaders ask for it there
    return found


def _api_client(*args: Any, **more: Any) -> Any:
    """kubernetes.client.ApiClient, which the loader of kubeconfigs wants to renew a token by OIDC."""
    return importlib.import_module("kubernetes.client.api_client").ApiClient(*args, **more)


def rest_client_type() -> Any:
    """kubernetes.client.rest.RESTClientObject."""
    return _part("kubernetes.client.rest").RESTClientObject


def config_exception() -> type[Exception]:
    """kubernetes.config.ConfigException."""
    found: type[Exception] = _part("kubernetes.config.config_exception").ConfigException
    return found


def load_in_cluster(configuration: Any) -> None:
    """By the service account of a pod. Raises ConfigException."""
    _part("kubernetes.config.incluster_config").load_incluster_config(client_configuration=configuration)


def load_kubeconfig(path: str, context: str | None, configuration: Any) -> None:
    """Raises ConfigException, and much else."""
    there = sys.modules["kubernetes.client"].__dict__
    if lent := "ApiClient" not in there:
        there["ApiClient"] = _api_client
    try:
        loader = _part("kubernetes.config.kube_config")
    finally:
        if lent:
            del there["ApiClient"]
    loader.load_kube_config(path, context=context, client_configuration=configuration)
