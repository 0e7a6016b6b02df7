"""The chart and the manifests made of it: generated, valid, consistent, and tight."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import jsonschema
import kubernetes_validate
import pytest
import yaml
from deploy_chart import CHART, DEPLOY, ROOT, VALUES, containers, documents, find, workloads
from gotemplate import TemplateError, Templates, _merged, render_chart
from packaging.requirements import Requirement

from l3net.cli.main import cli
from l3net.errors import ManifestError
from l3net.kube.translate import translate

every_values = pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
#: The oldest version the chart admits (Chart.yaml, kubeVersion) and the newest whose schema is at hand.
VERSIONS = ("1.28", kubernetes_validate.latest_version())
GOCODE = Path("/usr/share/gocode")


def test_generated_files_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/make-deploy"), "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# --- the renderer ----------------------------------------------------------------------------------------


@pytest.mark.skipif(
    shutil.which("go") is None or not (GOCODE / "src/github.com/Masterminds/sprig").is_dir(),
    reason="needs golang-go, golang-github-masterminds-sprig-dev, golang-gopkg-yaml.v3-dev",
)
def test_gos_own_engine_renders_the_same(tmp_path: Path) -> None:
    """The same text but for what `toYaml` writes, which is compared as what it means."""
    engine = tmp_path / "engine"
    environment = dict(os.environ, GO111MODULE="off", GOPATH=str(GOCODE), GOCACHE=str(tmp_path / "cache"))
    subprocess.run(
        ["go", "build", "-o", str(engine), "."],
        cwd=Path(__file__).parent / "engine",
        env=environment,
        check=True,
    )
    about = {
        key[0].upper() + key[1:]: value
        for key, value in yaml.safe_load((CHART / "Chart.yaml").read_text()).items()
    }
    for values in VALUES.values():
        root = {
            "Values": _merged(yaml.safe_load((CHART / "values.yaml").read_text()), values),
            "Chart": about,
            "Release": {"Name": "l3net", "Namespace": "kube-system", "Service": "Helm"},
        }
        sources = {path.name: path.read_text() for path in (CHART / "templates").iterdir()}
        done = subprocess.run(
            [str(engine)],
            check=False,
            input=json.dumps({"root": root, "templates": sources}),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        theirs, ours = json.loads(done.stdout), render_chart(CHART, values)
        for name, text in ours.items():
            if name.endswith(".yaml"):
                assert list(yaml.safe_load_all(theirs[name])) == list(yaml.safe_load_all(text)), name
            else:
                assert theirs[name] == text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a {{ .x }} b", "a 1 b"),
        ("a\n{{- /* nothing */ -}}\nb", "ab"),
        ("{{ if .no }}y{{ else if .x }}x{{ else }}n{{ end }}", "x"),
        ("{{ with .m }}{{ .k }}{{ $.x }}{{ end }}", "v1"),
        ("{{ range $i, $e := .l }}{{ $i }}{{ $e }},{{ else }}none{{ end }}", "0a,1b,"),
        ("{{ range .none }}x{{ else }}none{{ end }}", "none"),
        ("{{ .none | default `d` | quote }}", '"d"'),
        ("{{ $v := .x }}{{ if and $v (eq .x 1) }}{{ $v }}{{ end }}", "1"),
        ("{{ define `t` }}{{ . }}!{{ end }}{{ include `t` .x }}", None),
        ('{{ define "t" }}{{ . }}!{{ end }}{{ include "t" .x }}', "1!"),
        ("{{ toYaml .m | nindent 2 }}", "\n  k: v"),
    ],
)
def test_renderer(source: str, expected: str | None) -> None:
    root = {"x": 1, "m": {"k": "v"}, "l": ["a", "b"], "no": False}
    templates = Templates()
    if expected is None:
        with pytest.raises(TemplateError):
            templates.render(templates.parse(source), root)
    else:
        assert templates.render(templates.parse(source), root) == expected


@pytest.mark.parametrize("source", ["{{ nonsense .x }}", "{{ if .x }}", "{{ .a.b.c }}", "{{ end }}"])
def test_what_the_renderer_does_not_know_it_refuses(source: str) -> None:
    templates = Templates()
    with pytest.raises(TemplateError):
        templates.render(templates.parse(source), {})


# --- the manifests ---------------------------------------------------------------------------------------


def validate(document: dict[str, Any], version: str) -> None:
    """Against the Kubernetes schema, unknown fields refused; our own kinds as the agent reads them."""
    if document["apiVersion"].startswith("l3net.io/"):
        translate(document)
    elif document["apiVersion"] == "monitoring.coreos.com/v1":
        assert document["kind"] in ("PodMonitor", "PrometheusRule")  # test_deploy_monitoring looks at these
    else:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@every_values
def test_every_manifest_is_valid(values: dict[str, Any], version: str) -> None:
    for document in documents(values):
        validate(document, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_one_file_is_valid(version: str) -> None:
    found = list(yaml.safe_load_all((DEPLOY / "l3net.yaml").read_text()))
    assert len(found) > 10
    for document in found:
        validate(document, version)


def test_invalid_ones_are_found() -> None:
    """The control."""
    daemon = find(documents({}), "DaemonSet", "l3net-agent")
    daemon["spec"]["template"]["spec"]["hostNetwrk"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(daemon, VERSIONS[1])
    with pytest.raises(ManifestError):
        validate(find(documents({"ipPools": {"a": {"cdir": "10.0.0.0/8"}}}), "IPPool", "a"), VERSIONS[1])


@every_values
def test_names_that_refer_to_one_another(values: dict[str, Any]) -> None:
    found = documents(values)
    accounts = {each["metadata"]["name"] for each in found if each["kind"] == "ServiceAccount"}
    roles = {(each["kind"], each["metadata"]["name"]) for each in found}
    for _, workload in workloads(found):
        spec = workload["spec"]["template"]["spec"]
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert spec.get("serviceAccountName", "l3net-agent") in accounts
        volumes = {volume["name"] for volume in spec["volumes"]}
        mounted = {
            mount["name"]
            for container in (*spec.get("initContainers", ()), *spec["containers"])
            for mount in container["volumeMounts"]
        }
        assert volumes == mounted
    for each in found:
        if each["kind"].endswith("Binding"):
            assert (each["roleRef"]["kind"], each["roleRef"]["name"]) in roles
            assert {subject["name"] for subject in each["subjects"]} <= accounts
        if each["kind"] == "PodDisruptionBudget":
            target = find(found, "Deployment", each["metadata"]["name"])
            assert each["spec"]["selector"] == target["spec"]["selector"]


@every_values
def test_containers_have_no_more_than_they_need(values: dict[str, Any]) -> None:
    added: dict[str, set[str]] = {}
    for container in containers(documents(values)):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security.get("privileged", False) is False
        assert security["capabilities"]["drop"] == ["ALL"]
        added[container["name"]] = set(security["capabilities"].get("add", ()))
        assert {"requests", "limits"} <= container["resources"].keys()
    assert added["agent"] == {"NET_ADMIN", "SYS_ADMIN", "NET_RAW"}
    assert added["speaker"] == {"NET_BIND_SERVICE", "NET_RAW"}
    assert added.get("bfd", {"NET_RAW", "SYS_NICE", "IPC_LOCK"}) == {"NET_RAW", "SYS_NICE", "IPC_LOCK"}
    assert not added["install-cni"] and not added.get("controller") and not added.get("glass-cluster")
    assert added.get("glass", {"SETUID", "SETGID"}) == {"SETUID", "SETGID"}


def test_the_speaker_is_left_alone_when_the_agent_changes() -> None:
    """Its own DaemonSet, no token, and with a tag of its own the same pods whatever the agent is."""
    pinned = {"speaker": {"image": {"tag": "0.1.0"}}}
    before = find(documents(pinned), "DaemonSet", "l3net-speaker")["spec"]
    after = find(
        documents({**pinned, "image": {"tag": "0.2.0"}, "agent": {"mtu": 1400}}), "DaemonSet", "l3net-speaker"
    )["spec"]
    assert before == after
    assert before["template"]["spec"]["automountServiceAccountToken"] is False
    assert before["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1}


def test_run_directories_are_shared() -> None:
    found = documents({})
    sources = {
        name: {
            volume["name"]: volume.get("hostPath", {}).get("path")
            for volume in workload["spec"]["template"]["spec"]["volumes"]
        }
        for name, workload in workloads(found)
    }
    assert sources["l3net-agent"]["run"] == sources["l3net-speaker"]["run"] == "/run/l3net"


@every_values
def test_commands_are_ones_that_l3net_has(values: dict[str, Any]) -> None:
    """Every option in the manifests is known to the command line; probes too."""
    seen = 0
    for container in containers(documents(values)):
        commands = [container["command"]]
        commands += [
            container[probe]["exec"]["command"]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
            if "exec" in container.get(probe, {})
        ]
        for command in commands:
            if command[0] != "l3net":
                assert command[0] == "test"
                continue
            at: click.Command = cli
            rest = command[1:]
            context = click.Context(cli)
            while isinstance(at, click.Group):
                at = at.get_command(context, rest[0])  # type: ignore[assignment]
                assert at is not None, rest[0]
                context, rest = click.Context(at), rest[1:]
            at.make_parser(context).parse_args(list(rest))
            seen += 1
    assert seen >= 3


@pytest.mark.parametrize(
    ("address", "host"), [("127.0.0.1:9618", "127.0.0.1"), ("[::1]:9618", "::1"), ("", None)]
)
def test_probes_ask_over_http_where_the_agent_listens(address: str, host: str | None) -> None:
    found = documents({"agent": {"metricsAddress": address}})
    [agent] = [each for each in containers(found) if each["name"] == "agent"]
    for name, path in (
        ("startupProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/healthz"),
    ):
        if host is None:
            assert "exec" in agent[name]
        else:
            assert agent[name]["httpGet"] == {"path": path, "host": host, "port": 9618}


def test_bfd_is_off_unless_wanted() -> None:
    assert "l3net-bfd" not in dict(workloads(documents({})))
    pinned = {"bfd": {"enabled": True, "image": {"tag": "0.1.0"}}}
    before, after = (
        find(documents({**pinned, **more}), "DaemonSet", "l3net-bfd")["spec"]
        for more in ({}, {"image": {"tag": "0.2.0"}, "speaker": {"image": {"tag": "0.3.0"}}})
    )
    assert before == after, "its pods stay when all else is replaced"


def test_the_looking_glass_is_off_and_beyond_loopback_asks_for_a_token() -> None:
    assert not [each for each in documents({}) if "glass" in each["metadata"]["name"]]
    [node] = [each for each in containers(documents({"glass": {"enabled": True}})) if each["name"] == "glass"]
    assert {each for each in node["command"] if each.startswith("--listen")} == {
        "--listen=127.0.0.1:9179",
        "--listen=[::1]:9179",
    }
    values = {"glass": {"enabled": True, "tokenSecret": "t", "cluster": {"enabled": True}}}
    for each in containers(documents(values)):
        if each["name"].startswith("glass"):
            assert "--token-file=/etc/l3net-glass/token" in each["command"]


# --- the image -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["requirements.lock", "build-requirements.lock"])
def test_lock_pins_what_the_project_asks_for(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["build-system"]["requires"]
    if name == "requirements.lock":
        wanted = [
            *project["project"]["dependencies"],
            *project["project"]["optional-dependencies"]["kubernetes"],
            *project["project"]["optional-dependencies"]["glass"],
        ]
    entries = dict(
        match.groups() for match in re.finditer(r"^(\S+)==(\S+) \\\n", (DEPLOY / name).read_text(), re.M)
    )
    lines = (DEPLOY / name).read_text().splitlines()
    hashed = [line for line in lines if line.startswith("    --hash=sha256:")]
    assert len(entries) == sum("==" in line for line in lines) and len(hashed) >= len(entries)
    for text in wanted:
        requirement = Requirement(text)
        version = entries.get(requirement.name.lower())
        assert version is not None, f"{requirement.name} is not locked: run tools/lock-requirements"
        assert requirement.specifier.contains(version), (
            f"{text}: {version} is locked; run tools/lock-requirements"
        )


def test_the_lock_is_for_each_python_that_packages_are_built_with() -> None:
    """What is compiled has a wheel for each machine and each Python; one that is not has one for all."""
    said = re.search(r"PYTHONS = \(([^)]*)\)", (ROOT / "tools/lock-requirements").read_text())
    assert said is not None
    pythons = said[1].count(",") + 1
    assert pythons == 3
    counts = {
        entry.partition("==")[0]: entry.count("--hash")
        for entry in re.split(r"\n(?=\S)", (DEPLOY / "requirements.lock").read_text())
        if "==" in entry
    }
    assert counts["aiohttp"] == counts["rpds-py"] == 2 * pythons
    assert counts["click"] == 1, "the control"


def test_dockerfile_installs_by_hash_and_copies_what_exists() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert text.count("--require-hashes") == 2
    for line in text.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines()


# --- values ----------------------------------------------------------------------------------------------


def checked(values: dict[str, Any]) -> None:
    """As helm does: the merged values against values.schema.json."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator(schema).validate(_merged(defaults, values))


@every_values
def test_values_fit_their_schema(values: dict[str, Any]) -> None:
    checked(values)


def test_every_default_has_a_schema_and_the_other_way_round() -> None:
    def compare(schema: dict[str, Any], value: object, path: str) -> None:
        if "properties" in schema and isinstance(value, dict):
            optional = {"global"} if not path else set()
            assert schema["properties"].keys() - optional == value.keys() or not value, path
            for key in value:
                compare(schema["properties"][key], value[key], f"{path}.{key}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")


@pytest.mark.parametrize(
    "values",
    [
        {"contoller": {"enabled": False}},
        {"agent": {"tolerationz": []}},
        {"controller": {"loadBalancers": "some"}},
        {"image": {"digest": "latest"}},
        {"glass": {"enabled": True, "cluster": {"enabled": True}}},
        {"glass": {"tokenSecret": "t", "cluster": {"enabled": True}}},
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        checked(values)
