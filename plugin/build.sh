#!/bin/sh
# Builds the CNI executables into the directory given (default build/cni). CC chooses the compiler.
# Where Debian's gcc-aarch64-linux-gnu is installed, those for arm64 go into its subdirectory arm64.
# l3net-ipam is the same program: it goes by the name it was called with.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
out=${1:-$here/../build/cni}

build() { # compiler, directory
    mkdir -p "$2"
    "$1" -std=gnu11 -O2 -Wall -Wextra -Werror -static -s -o "$2/.l3net-cni.$$" "$here/l3net-cni.c"
    cp "$2/.l3net-cni.$$" "$2/.l3net-ipam.$$"
    # renamed into place: a runtime may be executing the old one ("text file busy")
    mv -f "$2/.l3net-cni.$$" "$2/l3net-cni"
    mv -f "$2/.l3net-ipam.$$" "$2/l3net-ipam"
}

build "${CC:-gcc}" "$out"
if [ -z "${CC:-}" ] && command -v aarch64-linux-gnu-gcc >/dev/null; then
    build aarch64-linux-gnu-gcc "$out/arm64"
fi
