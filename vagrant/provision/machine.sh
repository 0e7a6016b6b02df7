#!/bin/sh
# Makes a machine the host of the topology that it is to be. May be run any number of times, and changes what is not
# as it should be: after a change of the code, of the topology or of these scripts, run it again.
#   machine.sh HOST ROUTER KUBERNETES     e.g. tor1 frr 0, or n1 frr 1
set -eu
if [ $# -ne 3 ]; then
    echo "usage: machine.sh HOST frr|bird|openbgpd 0|1" >&2
    exit 2
fi
HOST=$1 ROUTER=$2 KUBERNETES=$3
TREE=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
# shellcheck source=vagrant/provision/common.sh
. "$TREE/vagrant/provision/common.sh"
[ -d "$GENERATED/$HOST" ] || fail "$GENERATED has no host of this name: \`make vagrant-export\` writes it"
[ "$(id -u)" -eq 0 ] || fail "needs root"

# shellcheck source=vagrant/provision/network.sh
. "$TREE/vagrant/provision/network.sh"
if [ -e "$GENERATED/$HOST/frr.conf" ]; then
    # shellcheck source=vagrant/provision/router.sh
    . "$TREE/vagrant/provision/router.sh"
elif [ -e "$GENERATED/$HOST/pods" ]; then
    # shellcheck source=vagrant/provision/l3net.sh
    . "$TREE/vagrant/provision/l3net.sh"
    if [ "$KUBERNETES" = 1 ]; then
        # shellcheck source=vagrant/provision/kubernetes.sh
        . "$TREE/vagrant/provision/kubernetes.sh"
    else
        # shellcheck source=vagrant/provision/plain.sh
        . "$TREE/vagrant/provision/plain.sh"
    fi
else
    # shellcheck source=vagrant/provision/client.sh
    . "$TREE/vagrant/provision/client.sh"
fi
say "done"
