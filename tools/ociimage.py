"""An OCI image without a container engine: Debian by mmdebstrap, l3net above it, and what is in both (SPDX).

The same packages and the same commit make the same octets. The layout is that of the OCI image specification,
as one archive, which containerd, podman and skopeo read.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

#: What the image has of Debian beside its essentials: as deploy/Dockerfile.
PACKAGES = ("python3", "nftables", "ca-certificates")
#: Not in the image: nobody reads them there.
LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")
#: They differ with each installation, and say nothing.
VOLATILE = (
    "/var/log",
    "/var/cache",
    "/var/lib/apt/lists",
    "/etc/machine-id",
    "/etc/resolv.conf",
    "/etc/hostname",
)
#: Where the image gets packages later, whatever mirror it was made from.
SOURCES = {
    "debian": (("http://deb.debian.org/debian", ""), ("http://deb.debian.org/debian-security", "-security")),
    "ubuntu": (("http://archive.ubuntu.com/ubuntu", ""), ("http://security.ubuntu.com/ubuntu", "-security")),
}


def release() -> tuple[str, str]:
    """This machine's release by its codename, and its distribution."""
    pairs = (line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    told = {key: value.strip('"') for key, value in pairs}
    return told["VERSION_CODENAME"], told["ID"]


def mirrors() -> list[str]:
    """From where this machine's apt gets its release, as lines of a sources.list."""
    suite, _ = release()
    form = "deb $(REPO_URI) $(CODENAME) $(COMPONENT)"
    argv = ["apt-get", "indextargets", "Created-By: Packages", "--format", form]
    lines = sorted(set(_run(argv).splitlines()))
    return [line for line in lines if line.split()[2] in (suite, f"{suite}-updates", f"{suite}-security")]


def apt_options() -> list[str]:
    """How this machine's apt reaches its mirrors, as options of mmdebstrap."""
    return [
        f"--aptopt={line}"
        for line in _run(["apt-config", "dump", "Acquire"]).splitlines()
        if line.lower().startswith(("acquire::http", "acquire::https"))
    ]


def sources_list() -> str:
    """Where an image gets packages later, whatever mirror it was made from."""
    suite, distribution = release()
    return "".join(f"deb {place} {suite}{more} main\n" for place, more in SOURCES[distribution])


def base(to: Path, epoch: str) -> None:
    """The lowest layer, as a tar archive, of this machine's release and from where its apt gets packages."""
    suite, _ = release()
    hooks = [
        f"--customize-hook=printf '%s' '{sources_list()}' >\"$1/etc/apt/sources.list\"",
        '--customize-hook=rm -rf "$1/etc/apt/sources.list.d" "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        *(f'--customize-hook=rm -rf "$1"{path}' for path in VOLATILE),
        '--customize-hook=find "$1/usr" "$1/etc" -name __pycache__ -prune -exec rm -rf {} +',
    ]
    excluded = [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    argv += [*apt_options(), *excluded, *hooks, suite, str(to), *mirrors()]
    apart = ["unshare", "--mount", "--propagation", "private", "--"]
    _run([*apart, *argv], {**os.environ, "SOURCE_DATE_EPOCH": epoch})


def above(root: Path, to: Path, epoch: str) -> None:
    """A layer of what is below `root`, all of it root's."""
    with tarfile.open(to, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            entry = archive.gettarinfo(path, str(path.relative_to(root)))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = int(epoch)
            if entry.isfile():
                with path.open("rb") as file:
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)


def image(
    layers: list[Path], to: Path, *, name: str, architecture: str, epoch: str, config: dict[str, Any]
) -> None:
    """The archive of an image layout (image-spec v1, image-layout.md)."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": f"sha256:{digest}",
            "size": len(content),
        }

    created = datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    contents = [layer.read_bytes() for layer in layers]
    described = [blob(gzip.compress(content, 6, mtime=0), "layer.v1.tar+gzip") for content in contents]
    settings = {
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in contents],
        },
        "history": [{"created": created, "created_by": "tools/package image"} for _ in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(_json(settings), "config.v1+json"),
        "layers": described,
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                **blob(_json(manifest), "manifest.v1+json"),
                "platform": {"architecture": architecture, "os": "linux"},
                "annotations": {
                    "io.containerd.image.name": f"docker.io/library/{name}",
                    "org.opencontainers.image.ref.name": name.rpartition(":")[2],
                },
            }
        ],
    }
    held = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    held |= {f"blobs/sha256/{digest}": content for digest, content in sorted(blobs.items())}
    with tarfile.open(to, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in held.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(content), 0o644, int(epoch)
            archive.addfile(entry, io.BytesIO(content))


def debian_packages(layer: Path) -> Iterator[tuple[str, str, str]]:
    """Name, version and package URL of all that dpkg has installed in a layer."""
    with tarfile.open(layer) as archive:
        for member in ("./var/lib/dpkg/status", "var/lib/dpkg/status"):
            try:
                file = archive.extractfile(member)
            except KeyError:
                continue
            status = file.read().decode() if file else ""
            for paragraph in status.split("\n\n"):
                fields = HeaderParser().parsestr(paragraph)
                if fields.get("Status", "").endswith(" installed"):
                    name, version = fields["Package"], fields["Version"]
                    yield name, version, f"pkg:deb/debian/{name}@{version}?arch={fields['Architecture']}"
            return


def python_packages(root: Path) -> Iterator[tuple[str, str, str]]:
    """The same of Python's."""
    for file in sorted(root.rglob("*.dist-info/METADATA")):
        fields = HeaderParser().parsestr(file.read_text(errors="replace"))
        name, version = fields["Name"], fields["Version"]
        yield name, version, f"pkg:pypi/{name.lower()}@{version}"


def bill(found: list[tuple[str, str, str]], to: Path, *, name: str, epoch: str) -> None:
    """What is in the image, as SPDX 2.3. Raises ValueError if it is not valid."""
    from spdx_tools.spdx.model import (  # noqa: PLC0415 - of this alone
        Actor,
        ActorType,
        CreationInfo,
        Document,
        ExternalPackageRef,
        ExternalPackageRefCategory,
        Package,
        Relationship,
        RelationshipType,
        SpdxNoAssertion,
    )
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document  # noqa: PLC0415
    from spdx_tools.spdx.writer.json.json_writer import write_document_to_file  # noqa: PLC0415

    digest = hashlib.sha256(repr(found).encode()).hexdigest()[:32]
    info = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id="SPDXRef-DOCUMENT",
        name=name,
        document_namespace=f"https://l3net.io/spdx/{name.replace(':', '-')}-{digest}",
        creators=[Actor(ActorType.TOOL, "tools/package image")],
        created=datetime.fromtimestamp(int(epoch), UTC).replace(tzinfo=None),
    )
    packages = [
        Package(
            spdx_id=f"SPDXRef-{number}",
            name=each,
            version=version,
            download_location=SpdxNoAssertion(),
            files_analyzed=False,
            external_references=[ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", url)],
        )
        for number, (each, version, url) in enumerate(found)
    ]
    related = [
        Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, each.spdx_id) for each in packages
    ]
    document = Document(info, packages, relationships=related)
    wrong = validate_full_spdx_document(document)
    if wrong:
        raise ValueError(wrong[0].validation_message)
    write_document_to_file(document, str(to), validate=False)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _run(argv: list[str], environment: dict[str, str] | None = None) -> str:
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE, env=environment).stdout
