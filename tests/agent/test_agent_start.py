"""What processes of l3net start with: nothing that they have no use for."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import FunctionType, ModuleType
from typing import Any

import pytest
import yaml
from node_rig import CONFIGURATION, NODE, TOR4, TOR6

from l3net import late
from l3net.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
#: Large, or slow to import, and of use to some agents and commands alone.
HEAVY = {
    "aiohttp",
    "difflib",
    "email.message",
    "exabgp.configuration",
    "importlib.metadata",
    "jsonschema",
    "kubernetes",
    "kubernetes.client.models",
    "kubernetes.dynamic",
    "kubernetes.watch",
    "l3net.agent.explaining",
    "l3net.explain.service",
    "l3net.shell.probes.sight",
    "netaddr",
    "pydantic",
    "pyroute2",
    "requests",
    "rich",
    "scapy",
}

AGENT = """
import sys
from pathlib import Path
from l3net.config import AgentSettings, datastore
from l3net.cli.agent import _open
import l3net.cli.agent_shells, l3net.agent.arrival, l3net.agent.loop, l3net.agent.recording
import l3net.agent.status, l3net.cli.agent_questions
import l3net.shell.sockets.agentserver
from l3net.shell.speaker.exabgp import release_is_known
directory, chosen = Path(sys.argv[1]), sys.argv[2]
run, state = directory / "run", directory / "state"
where = datastore(f"dir:{directory}", None, in_cluster=False) if chosen == "directory" else (
    datastore(None, directory / "kubeconfig", in_cluster=False))
found, _ = _open(AgentSettings("node", where, run, state, None, 0, 0, frozenset(), frozenset()), events=True)
if chosen == "directory":
    from l3net.shell.manifests.tree import ManifestTree
    changes = ManifestTree(directory).look()
    assert len(changes) >= 4, changes
assert release_is_known()
print(*sys.modules)
"""

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "a",
    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "a", "user": {"token": "t"}}],
}


def run(script: str, *argv: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", script, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def declared(directory: Path, documents: list[dict[str, Any]]) -> str:
    (directory / "all.yaml").write_text(yaml.safe_dump_all(documents))
    (directory / "kubeconfig").write_text(json.dumps(KUBECONFIG))
    return str(directory)


def test_an_agent_with_a_directory(tmp_path: Path) -> None:
    loaded = run(AGENT, declared(tmp_path, [NODE, CONFIGURATION, TOR4, TOR6]), "directory")
    assert not HEAVY & loaded
    assert {"l3net.agent.loop", "l3net.attach.server", "yaml", "asyncio"} <= loaded, "the control"


def test_what_is_wrong_is_said_by_the_library_of_schemas(tmp_path: Path) -> None:
    """The control: it is there for whoever needs it."""
    wrong = {**TOR4, "spec": {"address": "10.90.0.2", "asNumber": -1}}
    loaded = run(AGENT, declared(tmp_path, [NODE, CONFIGURATION, TOR6, wrong]), "directory")
    assert HEAVY & loaded == {"jsonschema"}


def test_an_agent_in_a_cluster(tmp_path: Path) -> None:
    """Of the official client it has the configuration and the transport."""
    loaded = run(AGENT, declared(tmp_path, []), "cluster")
    assert HEAVY & loaded == {"kubernetes", "email.message", "importlib.metadata"}  # the latter for HTTP
    assert {"kubernetes.client.rest", "kubernetes.config.kube_config", "urllib3"} <= loaded


def test_the_official_client_is_whole_for_whoever_else_imports_it() -> None:
    run("""
from l3net.shell.kubernetes import client
configuration = client.configuration_type()
try:
    client.load_kubeconfig("/dev/null", None, configuration())
except client.config_exception():
    pass
import kubernetes, kubernetes.client.api_client
from kubernetes import config, watch
assert kubernetes.client.Configuration is configuration
assert kubernetes.client.ApiClient is kubernetes.client.api_client.ApiClient
assert kubernetes.client.V1Pod and config.load_kube_config and watch.Watch
assert kubernetes.utils.create_from_yaml
import oauthlib.oauth2, requests_oauthlib
from kubernetes.config import kube_config
assert issubclass(oauthlib.oauth2.rfc6749.errors.InvalidClientIdError, Exception)
assert isinstance(kube_config.OAuth2Session("a"), requests_oauthlib.OAuth2Session)
assert isinstance(kube_config.ApiClient(), kubernetes.client.ApiClient)
assert not hasattr(kubernetes, "nothing")
""")


def test_commands() -> None:
    """None starts with what only the agent needs, nor prints by what only a few of them do."""
    some = {"lab", "bundle"}
    modules = [module for name, (module, _, _) in COMMANDS.items() if name not in some]
    loaded = run(f"import sys, {', '.join(modules)}; print(*sys.modules)")
    assert not (HEAVY | {"l3net.agent.loop"}) & loaded
    more = run(f"import sys, {', '.join(COMMANDS[name][0] for name in some)}; print(*sys.modules)")
    assert HEAVY & more == {"netaddr", "rich", "email.message", "importlib.metadata"}, "the control"


# --- methods of dataclasses -------------------------------------------------------------------------------


TEXT = """
from dataclasses import dataclass, field
from typing import Any, ClassVar
@dataclass(frozen=True, slots=True, order=True)
class Pair:
    \"\"\"A pair.\"\"\"
    first: int
    second: Any = field(default_factory=list, compare=False)
    third: str = "x"
    kept: ClassVar[int] = 5
    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError(self.first)
@dataclass
class Base:
    \"\"\"One that others derive from.\"\"\"
    name: str
class Derived(Base):
    \"\"\"Asks its base's methods.\"\"\"
"""
#: A module of l3net, whose classes have their methods later, and one of somebody else.
OURS, OTHERS = "l3net.made", "other_made"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Make a module anew."""

    def make(name: str) -> ModuleType:
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(TEXT, name, "exec", dont_inherit=True), vars(module))  # noqa: S102 - text of this file
        return module

    return make


needs_late = pytest.mark.skipif(late._create is None, reason="this Python compiles them together")
METHODS = ("__init__", "__repr__", "__eq__", "__hash__", "__lt__", "__ge__", "__setattr__", "__delattr__")


@needs_late
@pytest.mark.parametrize("name", METHODS)
def test_methods_are_those_of_dataclasses(made: Callable[[str], Any], name: str) -> None:
    """Compiled when first used, and the same to the instruction."""
    ours, plain = made(OURS).Pair, made(OTHERS).Pair
    assert isinstance(vars(plain)[name], FunctionType)
    if name != "__repr__":  # wrapped by dataclasses: the text waits inside
        assert isinstance(vars(ours)[name], late.Late)
    mine, theirs = getattr(ours, name), getattr(plain, name)
    assert inspect.signature(mine, follow_wrapped=False) == inspect.signature(theirs, follow_wrapped=False)
    assert (mine.__name__, mine.__qualname__) == (theirs.__name__, theirs.__qualname__)
    assert mine.__code__.co_code == theirs.__code__.co_code
    assert vars(ours)[name] is mine


@needs_late
@pytest.mark.parametrize("name", [OURS, OTHERS])
def test_values_are_as_ever(made: Callable[[str], Any], name: str) -> None:
    kind = made(name).Pair
    one, other = kind(1, [2]), kind(1, [3])
    assert one == other
    assert hash(one) == hash(other)
    assert one < kind(2) <= kind(2)
    assert repr(one) == "Pair(first=1, second=[2], third='x')"
    assert replace(one, third="y") == kind(1, third="y") != one
    assert dataclasses.astuple(copy.copy(one)) == dataclasses.astuple(one) == (1, [2], "x")
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - as above
    assert (kind.kept, kind.__match_args__) == (5, ("first", "second", "third"))
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        one.first = 2
    with pytest.raises(ValueError, match="-1"):
        kind(-1)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'first'"):
        kind()


@needs_late
@pytest.mark.parametrize("first", ["Base", "Derived"])
def test_the_function_goes_to_the_class_that_has_the_text(made: Callable[[str], Any], first: str) -> None:
    module = made(OURS)
    base, kind = module.Base, getattr(module, first)
    assert isinstance(vars(base)["__init__"], late.Late)
    assert kind("a") == kind("a") != kind("b")
    assert not isinstance(vars(base)["__init__"], late.Late)
    assert "__init__" not in vars(module.Derived)
    assert kind.__init__.__qualname__ == "Base.__init__"


@needs_late
def test_threads_that_ask_at_once(made: Callable[[str], Any]) -> None:
    for _ in range(20):
        kind = made(OURS).Pair
        found: list[object] = []
        threads = [Thread(target=lambda kind=kind, found=found: found.append(kind(1))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [kind(1)] * 4


@needs_late
def test_an_import_of_the_agent_compiles_next_to_none() -> None:
    """The control of what it is for."""
    counted = """
import dataclasses, sys
from l3net import late
import l3net.agent.loop
waiting = ready = 0
for module in [each for name, each in sys.modules.items() if name.startswith("l3net.")]:
    for kind in [each for each in vars(module).values() if dataclasses.is_dataclass(each)]:
        for name in ("__init__", "__eq__"):
            found = vars(kind).get(name) if isinstance(kind, type) else None
            waiting, ready = waiting + isinstance(found, late.Late), ready + (type(found) is type(lambda: 0))
print(waiting, ready)
"""
    done = subprocess.run([sys.executable, "-c", counted], capture_output=True, text=True, check=True)
    waiting, ready = map(int, done.stdout.split())
    assert waiting > 200
    assert ready < waiting / 5


def test_a_spared_module_is_there_when_it_is_used() -> None:
    """`dataclasses` does without `inspect` until it needs a signature; others get the real one."""
    code = """
import sys
import l3net, dataclasses
assert "inspect" not in sys.modules and "copy" not in sys.modules
@dataclasses.dataclass
class Plain:
    first: list
assert Plain.__doc__ == "Plain(first: list)", Plain.__doc__
one = Plain([1])
assert dataclasses.asdict(one) == {"first": [1]} and dataclasses.asdict(one)["first"] is not one.first
import inspect, copy
assert inspect.signature(Plain) and type(inspect) is type(sys), type(inspect)
assert dataclasses.inspect.signature is inspect.signature
"""
    subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.append({str(ROOT)!r})\n{code}"], check=True
    )


def test_sparing_changes_nothing_that_is_imported_already() -> None:
    before = dict(sys.modules)
    late.spare("dataclasses", "inspect")
    assert dataclasses.inspect is not None  # type: ignore[attr-defined]
    assert sys.modules == before
