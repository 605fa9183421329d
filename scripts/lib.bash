# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What scripts share that keep something they made: errors, and how a part of a cache is made once.
#
# A cache holds parts named by everything that went into them, so a part never changes once it is
# there: it is made under another name and renamed, by one process at a time (flock), and found by
# the others. Deleting a cache is always safe while none of its users runs.
# `failure` is the status of an error, where it is not 1.
: "${program:?the name that messages begin with}"

die() { # [-s STATUS] MESSAGE...
    local status=${failure:-1}
    if [[ $1 == -s ]]; then
        status=$2
        shift 2
    fi
    printf '%s: %s\n' "$program" "$*" >&2
    exit "$status"
}

note() { printf '%s: %s\n' "$program" "$*" >&2; }

# need PROGRAM PACKAGE: stops with the remedy when a program is missing.
need() {
    command -v -- "$1" >/dev/null || die "$1 is missing; install it: apt-get install $2"
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
