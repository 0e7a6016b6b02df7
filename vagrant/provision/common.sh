# shellcheck shell=sh
# Read by the other scripts here, which set TREE (the working tree) and HOST (this machine's name in the topology).
# What a script finds as it should be, it leaves alone: CHANGED says whether anything was not.

GENERATED=$TREE/vagrant/generated
# The scripts' own files on a machine.
# shellcheck disable=SC2034 # used by those that read this
LAB=/etc/l3net-lab
LIB=/usr/local/lib/l3net-lab
CHANGED=

say() { echo "-- $HOST: $*"; }
fail() { echo "l3net lab, $HOST: $*" >&2; exit 1; }

packages() { # NAME...: install what is missing
    "$TREE/tools/install-packages" "$@"
}

put() { # MODE FILE: standard input becomes FILE, which is touched only if it differs
    new=$(mktemp)
    cat >"$new"
    if [ -f "$2" ] && cmp -s "$new" "$2" && [ "0$(stat -c %a "$2")" = "$1" ]; then
        rm -f "$new"
        return 0
    fi
    mkdir -p "$(dirname "$2")"
    chmod "$1" "$new"
    mv -f "$new" "$2"
    CHANGED=yes
    say "wrote $2"
}

have_systemd() { [ -d /run/systemd/system ]; }

at_boot() { # UNIT: start it with the machine
    case $1 in
        *@*) unit=${1%%@*}@.service ;;
        *) unit=$1 ;;
    esac
    for directory in /etc/systemd/system /lib/systemd/system; do
        [ ! -e "$directory/$unit" ] || break
    done
    link=/etc/systemd/system/multi-user.target.wants/$1
    [ "$(readlink "$link" 2>/dev/null)" != "$directory/$unit" ] || return 0
    mkdir -p "${link%/*}"
    ln -sfn "$directory/$unit" "$link"
    CHANGED=yes
}

run_unit() { # UNIT: enabled, and running with what was written; without systemd only enabled
    at_boot "$1"
    have_systemd || return 0
    if [ -n "$CHANGED" ]; then
        systemctl daemon-reload
        systemctl restart "$1" || unit_failed "$1"
    else
        systemctl is-active -q "$1" || systemctl start "$1" || unit_failed "$1"
    fi
}

unit_failed() { # UNIT: what it said, for who looks at `vagrant up`; the end
    journalctl -q -b -o cat -n 20 -u "$1" >&2 || true
    exit 1
}
