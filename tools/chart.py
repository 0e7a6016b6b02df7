"""Check deploy/chart as `helm lint` does, and pack it as `helm package` does; for machines without helm.

    tools/chart.py lint [CHART]     what is wrong, one line each; exit code 1 if anything is
    tools/chart.py pack             lint, then dist/NAME-VERSION.tgz; the same commit makes the same octets

helm itself is not run. Templates are rendered by tools/gotemplate.py, for the default values and all those
that the documents show, in YAML or after --set.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

sys.path.insert(0, str(Path(__file__).parent))

from gotemplate import TemplateError, render_chart

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy/chart"
DIST = ROOT / "dist"
#: As in Chart.yaml's specification: semver.org, item 11 of its questions.
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_FIELDS = {
    *("apiVersion", "name", "version", "kubeVersion", "description", "type", "keywords", "home", "sources"),
    *("dependencies", "maintainers", "icon", "appVersion", "deprecated", "annotations"),
}


def lint(chart: Path) -> list[str]:
    """What is wrong, each with the file it is in."""
    found = [f"Chart.yaml: {each}" for each in _about(chart)]
    found += [f"values: {each}" for each in _values(chart)]
    found += [f"templates: {each}" for each in _templates(chart)]
    found += [f"crds: {each}" for each in _crds(chart)]
    return found


def _about(chart: Path) -> Iterator[str]:
    file = chart / "Chart.yaml"
    try:
        about = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as err:
        yield f"cannot be read: {err}"
        return
    if not isinstance(about, dict):
        yield "is not a mapping"
        return
    yield from (f"{name} is no field of a chart" for name in sorted({*about} - _FIELDS))
    if about.get("apiVersion") != "v2":
        yield "apiVersion must be v2"
    if not _NAME.fullmatch(str(about.get("name", ""))):
        yield "name must be a DNS name"
    for name in ("version", "appVersion"):
        value = about.get(name)
        if not isinstance(value, str) or not _SEMVER.fullmatch(value):
            yield f"{name} must be a string as in SemVer 2, not {value!r}"
    if about.get("type", "application") not in ("application", "library"):
        yield "type must be application or library"
    if not about.get("description"):
        yield "description is missing"
    if not isinstance(about.get("kubeVersion", ""), str):
        yield "kubeVersion must be a string"
    for each in about.get("dependencies", ()):
        if not (chart / "charts").exists():
            yield f"dependency {each.get('name')} is not in charts/"
    for name in ("home", "icon"):
        if name in about and not str(about[name]).startswith(("https://", "http://")):
            yield f"{name} must be a URL"


def _values(chart: Path) -> Iterator[str]:
    try:
        schema = Draft7Validator(yaml.safe_load((chart / "values.schema.json").read_text()))
        defaults = yaml.safe_load((chart / "values.yaml").read_text())
    except (OSError, yaml.YAMLError) as err:
        yield f"cannot be read: {err}"
        return
    for where, values in (("values.yaml", defaults), *documented(defaults)):
        for error in schema.iter_errors(values):
            yield f"{where}: {'.'.join(map(str, error.absolute_path)) or 'the whole'}: {error.message}"


def documented(defaults: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Values of the chart in the documents, by where they stand: blocks of YAML that the text before says are
    the chart's, and what stands after --set."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text()

        def where(at: int, page: Path = page, text: str = text) -> str:
            return f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, at) + 1}"

        for match in re.finditer(r"^```yaml\n(.*?)^```$", text, re.S | re.M):
            before = text[: match.start()].rstrip().rpartition("\n\n")[2]
            try:
                values = yaml.safe_load(match[1])
            except yaml.YAMLError:  # several documents: manifests
                continue
            if "chart" in before and isinstance(values, dict) and {*values} <= {*defaults}:
                yield where(match.start()), values
        for match in re.finditer(r"--set ([\w.]+)=([^\s`,]+)", text):
            values = yaml.safe_load(match[2].strip("'\""))
            for key in reversed(match[1].split(".")):
                values = {key: values}
            yield where(match.start()), values


def _templates(chart: Path) -> Iterator[str]:
    directory = chart / "templates"
    if not directory.is_dir():
        yield "the directory is missing"
        return
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.suffix not in (".yaml", ".yml", ".tpl", ".txt"):
            yield f"{path.name}: templates end in .yaml, .yml, .tpl or .txt"
    try:
        defaults = yaml.safe_load((chart / "values.yaml").read_text())
        cases = {str(values): (where, values) for where, values in documented(defaults)}
        cases["{}"] = ("default values", {})
    except (OSError, yaml.YAMLError):
        return  # told already
    for where, values in cases.values():
        try:
            rendered = render_chart(chart, values)
        except (TemplateError, OSError, yaml.YAMLError) as err:
            yield f"with {where}: {err}"
            continue
        if not rendered.get("NOTES.txt", "").strip():
            yield f"NOTES.txt is missing or empty with {where}"
        seen: set[tuple[str, str, str]] = set()
        for name, text in rendered.items():
            if Path(name).suffix in (".yaml", ".yml"):
                yield from (f"{name} with {where}: {each}" for each in _rendered(text, seen))


def _rendered(text: str, seen: set[tuple[str, str, str]]) -> Iterator[str]:
    try:
        documents = [each for each in yaml.safe_load_all(text) if each is not None]
    except yaml.YAMLError as err:
        yield f"is not YAML: {err}"
        return
    for document in documents:
        if not isinstance(document, dict):
            yield f"is not an object: {document!r:.60}"
            continue
        about = document.get("metadata") or {}
        kind, name = str(document.get("kind", "")), str(about.get("name", ""))
        if not kind or not document.get("apiVersion"):
            yield f"{name or 'an object'}: apiVersion or kind is missing"
        named = name.replace(":", "-") if kind.startswith(("Role", "ClusterRole")) else name
        if not _NAME.fullmatch(named) or len(name) > 253:
            yield f"{kind} {name!r}: metadata.name must be a DNS name"
        for key, value in (about.get("labels") or {}).items():
            if not isinstance(value, str) or len(value) > 63:
                yield f"{kind} {name}: the label {key} must be a string of at most 63 characters"
        if "crd-install" in str(about.get("annotations")):
            yield f"{kind} {name}: the hook crd-install is of Helm 2: use crds/"
        key = (kind, str(about.get("namespace", "")), name)
        if key in seen:
            yield f"{kind} {name} is there twice"
        seen.add(key)


def _crds(chart: Path) -> Iterator[str]:
    for path in sorted((chart / "crds").glob("*")):
        try:
            documents = list(yaml.safe_load_all(path.read_text()))
        except yaml.YAMLError as err:
            yield f"{path.name}: {err}"
            continue
        for document in documents:
            if not isinstance(document, dict) or document.get("kind") != "CustomResourceDefinition":
                yield f"{path.name}: what is no CustomResourceDefinition belongs into templates/"


def pack(chart: Path, to: Path, epoch: int) -> Path:
    """NAME-VERSION.tgz: the chart below a directory of its name, files alone, Chart.yaml first."""
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    first = ("Chart.yaml", "values.yaml", "values.schema.json")
    paths = [chart / name for name in first if (chart / name).exists()]
    paths += [path for path in sorted(chart.rglob("*")) if path.is_file() and path not in paths]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in paths:
            entry = tarfile.TarInfo(f"{about['name']}/{path.relative_to(chart).as_posix()}")
            content = path.read_bytes()
            entry.size, entry.mtime, entry.mode = len(content), epoch, 0o644
            archive.addfile(entry, io.BytesIO(content))
    to.mkdir(parents=True, exist_ok=True)
    made = to / f"{about['name']}-{about['version']}.tgz"
    made.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("lint", "pack"))
    parser.add_argument("chart", nargs="?", type=Path, default=CHART)
    parser.add_argument("--to", type=Path, default=DIST, help="the directory, dist unless told")
    given = parser.parse_args()
    if found := lint(given.chart):
        sys.exit("\n".join(found))
    sys.stdout.write(f"{given.chart}: nothing wrong\n")
    if given.what == "pack":
        epoch = os.environ.get("SOURCE_DATE_EPOCH") or subprocess.check_output(
            ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"], text=True
        )
        sys.stdout.write(f"{pack(given.chart, given.to, int(epoch))}\n")


if __name__ == "__main__":
    main()
