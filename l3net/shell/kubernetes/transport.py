"""How an API server is reached: the official client's configuration, and pools of connections made by it."""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from l3net.errors import ConfigError
from l3net.shell.kubernetes import client

#: Connections kept open: a watch holds one each.
CONNECTIONS: Final = 32


@dataclass(frozen=True, slots=True)
class Transport:
    """`configuration` is the client's: host, and headers that authenticate. `pool` is a urllib3 pool that
    makes requests; `around` one for the servers that are remembered, None where none may be asked."""

    configuration: Any
    pool: Any
    around: Any


#: Made of a kubeconfig (None: of a pod's service account) and a context in it. Raises ConfigError.
Configure: TypeAlias = Callable[[Path | None, str | None], Transport]


def configured(kubeconfig: Path | None, context: str | None) -> Transport:
    """By the official client. Raises ConfigError."""
    try:
        connecting, unusable = client.rest_client_type(), client.config_exception()
        configuration = client.configuration_type()()
    except ImportError as err:
        raise ConfigError(f"{err}: install l3net[kubernetes] to use the Kubernetes API") from None

    try:
        if kubeconfig is None:
            client.load_in_cluster(configuration)
        else:
            client.load_kubeconfig(str(kubeconfig), context, configuration)
    except (unusable, OSError, ValueError) as err:
        where = f"kubeconfig {kubeconfig}" if kubeconfig else "in-cluster configuration"
        text = str(err).strip().partition("\n")[0].rstrip(".")
        raise ConfigError(f"{where}: {text}; name another with --kubeconfig FILE") from None
    except Exception as err:
        # What is no kubeconfig at all may fail anywhere in the loader, in words that hold a secret.
        raise ConfigError(
            f"kubeconfig {kubeconfig}: is not one ({type(err).__name__}); name another with --kubeconfig FILE"
        ) from None
    configuration.keep_alive = True
    configuration.connection_pool_maxsize = CONNECTIONS
    pool = connecting(configuration).pool_manager
    direct = getattr(pool, "proxy", None) is None and not hasattr(pool, "proxy_url")
    tls = str(configuration.host).startswith("https://") and configuration.verify_ssl
    around = connecting(_verified_as_configured(configuration)).pool_manager if direct and tls else None
    return Transport(configuration, pool, around)


def _verified_as_configured(configuration: Any) -> Any:
    """The same for other addresses: what answers there has to be whom the configured address stands for."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    found = copy.copy(configuration)
    found.proxy = None
    name = urlsplit(str(configuration.host)).hostname or ""
    if not (found.assert_hostname or found.tls_server_name):
        try:
            found.assert_hostname = str(ipaddress.ip_address(name))
        except ValueError:
            found.tls_server_name = name
    return found
