"""The parts of the official client that are used, without all that its packages gather.

`import kubernetes` brings 20 MiB of typed models, watchers, informers and what these need; l3net reads
configurations with it and makes connections. The packages' own modules run only when something of theirs is
asked for that is not here, so that whoever else imports them finds them whole.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

_PACKAGES: Final = ("kubernetes", "kubernetes.client", "kubernetes.config", "kubernetes.utils")
#: What the loader of kubeconfigs imports for a token that is renewed by OIDC: package, name, and where it is.
_BY_OIDC: Final = (
    ("oauthlib", None, ""),
    ("oauthlib.oauth2", None, ""),
    ("requests_oauthlib", "OAuth2Session", "requests_oauthlib.oauth2_session"),
    ("kubernetes.client", "ApiClient", "kubernetes.client.api_client"),
)


def _deferred(name: str) -> dict[str, Any]:
    """Have the package, whose __init__ runs at the first question that it alone can answer; its namespace."""
    if name in sys.modules:
        return vars(sys.modules[name])
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"No module named {name!r}", name=name)
    module, loader = importlib.util.module_from_spec(spec), spec.loader

    def ask(attribute: str) -> Any:
        vars(module).pop("__getattr__", None)
        loader.exec_module(module)
        return getattr(module, attribute)

    vars(module)["__getattr__"] = ask
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return vars(module)


def _part(name: str) -> ModuleType:
    for package in _PACKAGES:
        _deferred(package)
    return importlib.import_module(name)


def configuration_type() -> Any:
    """kubernetes.client.Configuration. Raises ImportError where the client is not installed."""
    found = _part("kubernetes.client.configuration").Configuration
    _deferred("kubernetes.client").setdefault("Configuration", found)  # the loaders ask for it there
    return found


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
    configuration_type()
    with contextlib.ExitStack() as undo:
        for package, name, place in _BY_OIDC:
            there = _deferred(package)
            if name is not None and name not in there:
                there[name] = _made_later(place, name)
                undo.callback(there.pop, name)
        loader = _part("kubernetes.config.kube_config")
    loader.load_kube_config(path, context=context, client_configuration=configuration)


def _made_later(place: str, name: str) -> Callable[..., Any]:
    """Stands for a class while the loader is imported, and makes one of that when it is called."""

    def make(*args: Any, **more: Any) -> Any:
        return getattr(importlib.import_module(place), name)(*args, **more)

    return make
