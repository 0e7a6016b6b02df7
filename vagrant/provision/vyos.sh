#!/bin/vbash
# shellcheck shell=bash
# Makes a VyOS machine a router of the topology, with the commands that `l3net lab export` wrote. Runs as root on VyOS
# itself, whose shell is a bash with the configuration's commands; may be repeated: what is set already stays.
#   vyos.sh COMMANDS
# shellcheck disable=SC1091,SC2154 # VyOS's own
if [ "$(id -g -n)" != vyattacfg ]; then
    exec sg vyattacfg -c "/bin/vbash $(readlink -f "$0") $*"
fi
commands=$1
source /opt/vyatta/etc/functions/script-template
configure
# Whatever BGP was told before goes, as do links that are no longer there.
delete protocols bgp >/dev/null 2>&1
while IFS= read -r line; do
    eval "$line" || echo "VyOS refused: $line" >&2
done <"$commands"
if ! commit; then
    # "No configuration changes to commit" is a failure to VyOS, and none to us.
    compare | grep -q '^[+-]' && { echo "VyOS: commit failed" >&2; exit 1; }
fi
save >/dev/null
exit
