# What the tests of images start with, behind common.bash: a store of the test's own, a registry on loopback,
# layouts made by umoci.

eval "$(declare -f setup | sed '1s/setup/common_setup/')"
eval "$(declare -f teardown | sed '1s/teardown/common_teardown/')"

# setup() of those that need these programs and mkfs.erofs. `mine` is dayfly on the store $MINE.
images_setup() { # PROGRAM...
    needs skopeo umoci mkfs.erofs "$@"
    [ "$(id -u)" -eq 0 ] || skip "umoci unpacks owners and devices as root alone"
    common_setup
    export MINE=$TEST_DIR/home
    LAYOUT=$TEST_DIR/layout
}

# The same for jobs: with the kernels that there are.
images_setup_to_run() { # PROGRAM...
    images_setup "$@"
    mkdir -p "$MINE"
    cp -a "$DAYFLY_HOME/kernels" "$MINE/kernels"
}

teardown() {
    [ -n "${TEST_DIR:-}" ] || return 0
    stop_registries
    common_teardown
}

# A registry in $1, with more lines of configuration for its "http" section, and sections, in $2 and $3.
# Sets REGISTRY (host:port).
start_registry() { # DIR [HTTP_LINES] [SECTIONS]
    mkdir -p "$1"
    cat >"$1/config.yml" <<CONFIG
version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $1/data}, delete: {enabled: true}}
${3:-}
http:
  addr: 127.0.0.1:0
${2:-}
CONFIG
    mkfifo "$1/log"
    OTEL_TRACES_EXPORTER=none docker-registry serve "$1/config.yml" >"$1/out" 2>"$1/log" 3>&- &
    echo $! >>"$TEST_DIR/registries"
    local line port log
    exec {log}<"$1/log"
    while read -r -t 30 -u "$log" line; do
        if [[ $line =~ listening\ on\ 127\.0\.0\.1:([0-9]+) ]]; then
            port=${BASH_REMATCH[1]}
            break
        fi
    done
    # What it says later must go somewhere.
    cat <&"$log" >"$1/later" 3>&- &
    exec {log}<&-
    REGISTRY=localhost:${port:?the registry did not start}
}

# A registry of our own that serves a layout, as broken-registry says. Sets REGISTRY; requests are logged in
# $TEST_DIR/requests, faults are taken from $TEST_DIR/faults.
start_broken_registry() { # LAYOUT
    local port log
    touch "$TEST_DIR/faults"
    : >"$TEST_DIR/requests"
    mkfifo "$TEST_DIR/port"
    tests/e2e/broken-registry "$1" "$TEST_DIR/requests" "$TEST_DIR/faults" >"$TEST_DIR/port" 3>&- &
    echo $! >>"$TEST_DIR/registries"
    read -r -t 30 port <"$TEST_DIR/port"
    REGISTRY=localhost:${port:?the registry did not start}
}

stop_registries() {
    local pid
    while read -r pid; do
        kill "$pid" 2>/dev/null || continue
        timeout 10 tail --pid="$pid" -f /dev/null
    done < <(cat "$TEST_DIR/registries" 2>/dev/null)
}

# dayfly on a store of the test's own.
mine() {
    DAYFLY_HOME=$MINE timeout -k 10 "$LIMIT" "$DAYFLY" "$@"
}

# One layer after the other of a layout $1 as a tag $2: each further argument is a command that changes the
# root file system in the working directory.
umoci_image() { # LAYOUT TAG COMMAND...
    local layout=$1 tag=$2
    shift 2
    [ -d "$layout" ] || umoci init --layout "$layout"
    umoci new --image "$layout:$tag"
    umoci_layers "$layout:$tag" "$@"
}

# The same on top of what the tag is.
umoci_layers() { # LAYOUT:TAG COMMAND...
    local image=$1 bundle
    shift
    for command in "$@"; do
        bundle=$(mktemp -d "$TEST_DIR/bundle.XXXXXX")
        umoci unpack --image "$image" "$bundle/b" >/dev/null
        (cd "$bundle/b/rootfs" && $command)
        umoci repack --image "$image" "$bundle/b" >/dev/null
        rm -rf "$bundle"
    done
}

# The digest of a tag's manifest in a layout.
layout_digest() { # LAYOUT TAG
    python3 - "$1" "$2" <<'PYTHON'
import json, sys
for entry in json.load(open(sys.argv[1] + "/index.json"))["manifests"]:
    if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == sys.argv[2]:
        print(entry["digest"])
PYTHON
}

blob() { # LAYOUT DIGEST: its path
    echo "$1/blobs/${2/://}"
}

# Store standard input as a blob of a layout and print its digest.
put_blob() { # LAYOUT
    local file digest
    file=$(mktemp "$TEST_DIR/blob.XXXXXX")
    cat >"$file"
    digest=$(sha256sum "$file" | cut -d' ' -f1)
    mv "$file" "$1/blobs/sha256/$digest"
    echo "sha256:$digest"
}

# The file of an image's root file system.
root_of() { # IMAGE
    mine image inspect "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["root"]["path"])'
}

# Compare the root file system of image $1 with what umoci unpacks of LAYOUT:TAG. More arguments are for
# compare-trees. In a mount namespace of its own: nothing stays mounted.
same_as_umoci() { # IMAGE LAYOUT:TAG [OPTION...]
    local root bundle image=$1 source=$2
    shift 2
    root=$(root_of "$image")
    bundle=$(mktemp -d "$TEST_DIR/bundle.XXXXXX")
    umoci unpack --image "$source" "$bundle/b" >/dev/null
    mkdir "$bundle/mnt"
    # shellcheck disable=SC2016
    unshare -m sh -ec 'mount -t erofs -o loop,ro "$1" "$2"; shift; exec tests/e2e/compare-trees "$@"' \
        sh "$root" "$bundle/mnt" "$bundle/b/rootfs" "$@"
}

needs() { # PROGRAM...
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || skip "$program is not installed"
    done
}
