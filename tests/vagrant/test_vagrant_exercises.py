"""The bash functions of docs/lab.md for virtual machines: what is typed comes to the machine as it is.

In place of ssh, a shell of this computer runs what sshd would hand to the machine's login shell.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
#: Each machine is a directory, and sudo nothing.
SSH = r"""
ssh() {
    [ "$1 $2" = "-F vagrant/.ssh-config" ] && [ -d "$PLACE/$3" ] || { echo "ssh $*" >&2; return 255; }
    local host=$3; shift 3
    bash -c "sudo() { HOST=$host \"\$@\"; }; ${*//\/etc\/l3net\/manifests/$PLACE/$host}"
}
"""
HARD = [
    "a b",
    "it's",
    'two "words"',
    "back\\slash \\n",
    "$HOME `id` $(id)",
    "line\nline",
    "",
    "*",
    "ä",
    "a;b|c&d>e",
    "-n",
]


def functions() -> str:
    """Those of virtual machines."""
    (found,) = re.findall(r"(?ms)^```\n(lab=\"--ssh-config.*?)^```", (TREE / "docs/lab.md").read_text())
    return str(found)


def typed(place: Path, script: str, *given: str, text: str = "") -> str:
    for host in ("n1", "n2", "n3", "spine"):
        (place / host).mkdir(exist_ok=True)
    argv = ["bash", "-uc", f"PLACE='{place}'\n{SSH}\n{functions()}\n{script}", "bash", *given]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_arguments_arrive_as_they_are(tmp_path: Path) -> None:
    assert typed(tmp_path, "on spine printf '<%s>' \"$@\"", *HARD) == "".join(f"<{each}>" for each in HARD)
    assert typed(tmp_path, "on n2 sh -c 'echo \"$HOST: $(cat)\"'", text="in") == "n2: in\n"


PODS = {"web-1": "n1", "local-1": "n1", "web-2": "n2", "shell-1": "n2", "local-2": "n3", "shell-2": "n3"}


@pytest.mark.parametrize(("pod", "node"), PODS.items())
def test_a_pod_is_on_its_node(tmp_path: Path, pod: str, node: str) -> None:
    program = tmp_path / "l3net-lab"
    program.write_text('#!/bin/sh\necho "$HOST: $*"\n')
    program.chmod(0o755)
    said = typed(tmp_path, f"PATH=$PLACE:$PATH; on {pod} curl 'http://[fd00::1]/'")
    assert said == f"{node}: pod-exec {pod} curl http://[fd00::1]/\n"


def test_manifests_are_put_edited_and_dropped(tmp_path: Path) -> None:
    text = "".join(f"{each}\n" for each in HARD) * 50
    typed(tmp_path, 'put nodes.yaml; put "a b.yaml" <$PLACE/n1/nodes.yaml', text=text)
    for host in ("n1", "n2", "n3"):
        for name in ("nodes.yaml", "a b.yaml"):
            assert (tmp_path / host / name).read_text() == text
    script = (
        r"""edit nodes.yaml '/line$/,/^$/s/^line/spec:\n  it'"'"'s: {"$HOME"}/'; drop "a b.yaml" gone.yaml"""
    )
    typed(tmp_path, script)
    for host in ("n1", "n2", "n3"):
        assert [path.name for path in (tmp_path / host).iterdir()] == ["nodes.yaml"]
        edited = (tmp_path / host / "nodes.yaml").read_text()
        assert edited == text.replace("line\nline\n", 'spec:\n  it\'s: {"$HOME"}\n' * 2)
    assert list((tmp_path / "spine").iterdir()) == []
