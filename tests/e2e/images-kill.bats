# SPDX-License-Identifier: Apache-2.0
# Commands on the store of images, killed at every step of their work on it: kill-store has what must hold.
# (`image build` is not among them for its time: what mmdebstrap made goes the way of an import.)
# At most 150 steps a command, DAYFLY_TEST_LONG=1 for all.

bats_require_minimum_version 1.5.0
load common
load images

setup() { images_setup python3; }

base() {
    mkdir -p etc usr/lib
    echo base >etc/file
    head -c 40000 /dev/urandom >usr/lib/data
}

change() {
    rm etc/file
    echo more >etc/more
}

# A store with the images one and kept, which have a layer in common with two and three in the layout.
template() {
    umoci_image "$LAYOUT" one base
    for tag in two three kept; do
        umoci tag --image "$LAYOUT:one" "$tag"
        umoci_layers "$LAYOUT:$tag" change
    done
    mine image pull -q "oci:$LAYOUT:one" --name one
    mine image pull -q "oci:$LAYOUT:kept" --name kept
}

killed() { # [once] -- COMMAND...
    local steps=150
    [ -z "${DAYFLY_TEST_LONG:-}" ] || steps=0
    build/tests/kill/kill-at "$TEST_DIR" 0 /dev/null true || skip "no ptrace here"
    tests/e2e/kill-store build/tests/kill/kill-at "$DAYFLY" "$MINE" "$TEST_DIR/work" "$steps" "$@"
}

@test "import, killed at every step" {
    template
    mkdir "$TEST_DIR/tree"
    (cd "$TEST_DIR/tree" && base)
    killed -- import one "$TEST_DIR/tree"
}

@test "pull from a layout, killed at every step" {
    template
    killed -- pull -q "oci:$LAYOUT:two" --name one
}

@test "pull of what is there already, killed at every step" {
    template
    killed -- pull -q "oci:$LAYOUT:kept" --name again
}

@test "pull from a registry, killed at every step" {
    template
    start_broken_registry "$LAYOUT"
    killed -- pull -q --tls-verify=false "$REGISTRY/x:three" --name three
}

@test "push, tag, rm and prune, killed at every step" {
    template
    killed -- push -q one "oci:$TEST_DIR/out:one"
    killed -- tag one again
    killed once -- rm one
    killed -- prune --keep-size 0
}
