#!/bin/sh
# Builds the CNI executables into the directory given (default build/cni). CC chooses the compiler.
# l3net-ipam is the same program: it goes by the name it was called with.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
out=${1:-$here/../build/cni}
mkdir -p "$out"
# temp and rename: a runtime may be executing the old one ("text file busy")
for name in l3net-cni l3net-ipam; do
    temp="$out/.$name.$$"
    if [ "$name" = l3net-cni ]; then
        ${CC:-gcc} -std=gnu11 -O2 -Wall -Wextra -Werror -static -s -o "$temp" "$here/l3net-cni.c"
    else
        cp "$out/l3net-cni" "$temp"
    fi
    mv -f "$temp" "$out/$name"
done
