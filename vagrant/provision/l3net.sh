# shellcheck shell=sh
# l3net out of the working tree, into /opt/l3net: anew whenever the tree differs from what is there. Read by machine.sh.

packages python3-venv gcc libc6-dev conntrack kmod

CHANGED=
# shellcheck disable=SC2034 # the image of a cluster is tagged with it
hash=$("$TREE/tools/tree-hash")
if [ "$(cat /opt/l3net/.tree 2>/dev/null)" != "$hash" ]; then
    say "installing l3net of tree $hash"
    [ -x /opt/l3net/bin/python ] || python3 -m venv /opt/l3net
    site=$(/opt/l3net/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    if [ -d "$site/l3net" ] && cmp -s "$TREE/pyproject.toml" /opt/l3net/.pyproject.toml; then
        # What it needs is there: the code alone is another. No network, and a tenth of the time.
        rm -rf "$site/l3net.new"
        cp -r "$TREE/l3net" "$site/l3net.new"
        find "$site/l3net.new" -name __pycache__ -prune -exec rm -rf {} +
        rm -rf "$site/l3net"
        mv "$site/l3net.new" "$site/l3net"
        /opt/l3net/bin/python -m compileall -q "$site/l3net"
    else
        [ -x /opt/l3net/bin/pip ] || /opt/l3net/bin/python -m ensurepip >/dev/null
        # From a copy: pip builds beside the sources, and the tree is not ours to write in.
        copy=$(mktemp -d)
        cp -r "$TREE/l3net" "$TREE/pyproject.toml" "$TREE/README.md" "$TREE/LICENSE" "$copy"
        # The version need not have changed with the code.
        /opt/l3net/bin/python -m pip install -q --disable-pip-version-check "$copy"
        /opt/l3net/bin/python -m pip install -q --disable-pip-version-check --force-reinstall --no-deps "$copy"
        rm -rf "$copy"
        cp "$TREE/pyproject.toml" /opt/l3net/.pyproject.toml
    fi
    "$TREE/plugin/build.sh" /opt/l3net/cni
    ln -sfn /opt/l3net/bin/l3net /usr/local/bin/l3net
    printf '%s\n' "$hash" >/opt/l3net/.tree
    CHANGED=yes
fi
