# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the lab's scripts share beside scripts/lib.bash: where the lab is, and its cache folder.

# shellcheck disable=SC2034 # for those that source this
lab_dir=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
program=lab/$(basename -- "$0") failure=125
# shellcheck source-path=SCRIPTDIR source=../scripts/lib.bash
. "$lab_dir/../scripts/lib.bash"

cache_dir() {
    local dir=${DAYFLY_LAB_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or DAYFLY_LAB_CACHE}/.cache}/dayfly/lab}
    mkdir -p -- "$dir" || die "cannot make the cache folder $dir; set DAYFLY_LAB_CACHE"
    (cd -- "$dir" && pwd)
}
