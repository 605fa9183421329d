# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the lab's scripts share: errors, the cache folder, and how a part of it is made once.
#
# The cache holds parts named by everything that went into them, so a part never changes once
# it is there: it is made under another name and renamed, by one process at a time (flock), and
# found by the others. Deleting the folder is always safe while no lab runs.

# shellcheck disable=SC2034 # for those that source this
lab_dir=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
lab_name=lab/$(basename -- "$0")

die() { # [-s STATUS] MESSAGE...
    local status=125
    if [[ $1 == -s ]]; then
        status=$2
        shift 2
    fi
    printf '%s: %s\n' "$lab_name" "$*" >&2
    exit "$status"
}

note() { printf '%s: %s\n' "$lab_name" "$*" >&2; }

# need PROGRAM PACKAGE: stops with the remedy when a program is missing.
need() {
    command -v -- "$1" >/dev/null || die "$1 is missing; install it: apt-get install $2"
}

cache_dir() {
    local dir=${DAYFLY_LAB_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or DAYFLY_LAB_CACHE}/.cache}/dayfly/lab}
    mkdir -p -- "$dir" || die "cannot make the cache folder $dir; set DAYFLY_LAB_CACHE"
    (cd -- "$dir" && pwd)
}

# hash_of FILE...: a short name for the files' contents.
hash_of() { cat -- "$@" | sha256sum | cut -c1-12; }

# make_once PATH FUNCTION [ARG...]: unless PATH is there, FUNCTION TEMPORARY [ARG...] makes it.
# TEMPORARY is a fresh folder beside PATH; when FUNCTION leaves a file or folder named `out` in it,
# that becomes PATH. Safe with any number of processes and with a kill at any moment.
make_once() (
    path=$1 making=${1%/*}/making-${1##*/} fn=$2
    shift 2
    [[ ! -e $path ]] || exit 0
    exec {lock}>"${path%/*}/.lock-${path##*/}"
    flock "$lock"
    [[ ! -e $path ]] || exit 0
    # The lock is ours, so what an earlier maker left half done is nobody's.
    rm -rf -- "$making"
    mkdir -- "$making"
    trap 'rm -rf -- "$making"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    "$fn" "$making" "$@"
    mv -T -- "$making/out" "$path"
)
