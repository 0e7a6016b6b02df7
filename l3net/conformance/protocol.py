"""Cases on the protocol: VERSION, versions, environment, standard input, errors."""

from __future__ import annotations

import json

from l3net.conformance.bench import Bench, NotApplicable, require
from l3net.conformance.verdict import case


def supported(bench: Bench) -> list[str]:
    found = bench.call("VERSION", None, None, {"cniVersion": "1.0.0"}, None).result()
    return [str(version) for version in found["supportedVersions"]]


def since(bench: Bench, version: str) -> None:
    if version not in supported(bench):
        raise NotApplicable(f"the plugin does not speak {version}")


@case("version", "VERSION answers without standard input")
def version_bare(bench: Bench) -> None:
    found = bench.call("VERSION", None, None, b"", None).result()
    require(
        found.get("cniVersion") and found.get("supportedVersions"), "cniVersion or supportedVersions missing"
    )


@case("version", "VERSION answers with dummy environment values")
def version_dummy(bench: Bench) -> None:
    found = bench.call("VERSION", "dummy", None, {"cniVersion": "0.4.0"}, "dummy", CNI_NETNS="dummy").result()
    require("0.4.0" in found["supportedVersions"], "0.4.0 is not among the supported versions")


@case("version", "every supported version is echoed in its own result shape")
def version_shapes(bench: Bench) -> None:
    for version in supported(bench):
        container, pod = bench.name(), bench.pod()
        found = bench.add(container, pod, bench.having(cniVersion=version))
        require(found.get("cniVersion") == version, f"{version}: answered as {found.get('cniVersion')}")
        parts = tuple(map(int, version.split(".")))
        if parts < (0, 3, 0):
            require("ip4" in found or "ip6" in found, f"{version}: no ip4 or ip6")
        else:
            require(found.get("interfaces") and found.get("ips"), f"{version}: no interfaces or ips")
            has = "version" in found["ips"][0]
            require(has == (parts < (1, 0, 0)), f"{version}: ips.version {'present' if has else 'absent'}")
        bench.delete(container, pod, bench.having(cniVersion=version))


@case("version", "an unknown version is refused with code 1 and no side effect")
def version_unknown(bench: Bench) -> None:
    pod, before = bench.pod(), bench.host_veths()
    bench.call("ADD", bench.name(), pod, bench.having(cniVersion="9.9.9")).error(1)
    require(bench.host_veths() == before and not bench.links(pod), "an interface was made")


@case("version", "no version means 0.1.0")
def version_absent(bench: Bench) -> None:
    container, pod, conf = bench.name(), bench.pod(), bench.having(cniVersion=None)
    outcome = bench.call("ADD", container, pod, conf)
    if "0.1.0" in supported(bench):
        found = outcome.result()
        require("ip4" in found or "ip6" in found, "the result is not in the shape of 0.1.0")
    else:
        outcome.error(1)
    bench.call("DEL", container, pod, conf)


@case("environment", "an unknown command is refused with code 4")
def unknown_command(bench: Bench) -> None:
    bench.call("NONSENSE", bench.name(), bench.pod()).error(4)


@case("environment", "missing variables are refused with code 4, all of them in one message")
def missing_environment(bench: Bench) -> None:
    found = bench.call("ADD", None, None, None, None).error(4)
    said = json.dumps(found)
    for name in ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"):
        require(name in said, f"{name} is not named")


@case("environment", "container IDs that are paths, options or too long are refused with code 4")
def bad_container(bench: Bench) -> None:
    pod = bench.pod()
    for bad in ("../../x", "-rf", "a/b", "a b", "." + "x" * 10, "x" * 10240):
        bench.call("ADD", bad, pod).error(4)
    require(not bench.links(pod), "an interface was made")


@case("environment", "interface names the kernel cannot have are refused with code 4")
def bad_ifname(bench: Bench) -> None:
    pod, before = bench.pod(), bench.host_veths()
    for bad in ("x" * 16, ".", "..", "a/b", "a:b", "a b"):
        bench.call("ADD", bench.name(), pod, ifname=bad).error(4)
    require(bench.host_veths() == before, "an interface was made")


@case("input", "standard input that is not JSON is refused with code 6")
def not_json(bench: Bench) -> None:
    for bad in (b"", b"{", b"nonsense", b"[" * 100000):
        bench.call("ADD", bench.name(), bench.pod(), bad).error(6)


@case("input", "a missing or bad network name is refused with code 7")
def bad_name(bench: Bench) -> None:
    pod = bench.pod()
    for bad in (None, "", "../x", "a b"):
        bench.call("ADD", bench.name(), pod, bench.having(name=bad)).error(7)


@case("input", "unknown keys, args and capabilities are tolerated")
def unknown_keys(bench: Bench) -> None:
    container, pod = bench.name(), bench.pod()
    conf = bench.having(unknown={"a": 1}, args={"cni": {"x": "y"}}, capabilities={"none": True})
    bench.add(container, pod, conf, CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=p;K8S_POD_NAMESPACE=n")
    bench.delete(container, pod, conf)


@case("input", "without CNI_COMMAND it introduces itself on standard error and exits 0")
def no_command(bench: Bench) -> None:
    outcome = bench.call(None, None, None, b"", None)
    require(outcome.code == 0, f"exit code {outcome.code}")
    require(outcome.stderr.strip() and not outcome.stdout.strip(), "not (only) on standard error")


@case("input", "a failure is one JSON object with code and msg on standard output")
def failure_shape(bench: Bench) -> None:
    found = bench.call("ADD", bench.name(), None, None, CNI_NETNS="/run/netns/none-such-l3net").error()
    require("cniVersion" in found, "the error lacks cniVersion")
