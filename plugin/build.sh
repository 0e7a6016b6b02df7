#!/bin/sh
# Builds the CNI executables into the directory given (default build/cni). CC chooses the compiler.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
out=${1:-$here/../build/cni}
mkdir -p "$out"
# temp and rename: a runtime may be executing the old one ("text file busy")
${CC:-gcc} -std=gnu11 -O2 -Wall -Wextra -Werror -static -s -o "$out/.l3net-cni.new" "$here/l3net-cni.c"
mv -f "$out/.l3net-cni.new" "$out/l3net-cni"
