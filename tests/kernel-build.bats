#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# What builds the guest kernel, as far as it goes without compiling one: that a configuration which Kconfig
# did not grant is seen, how fragments stack, and what counts as built.

setup() {
    cd "$BATS_TEST_DIRNAME/.."
    TEST_DIR=$(mktemp -d)
    export XDG_CACHE_HOME=$TEST_DIR
    # What Kconfig makes of a fragment that it grants in full, among other things.
    {
        echo "CONFIG_CC_VERSION_TEXT=\"gcc\""
        sed -n 's/^\(CONFIG_[A-Z0-9_]*\)=n$/# \1 is not set/p; /^CONFIG_.*[^n]$/p' kernel/config
    } >"$TEST_DIR/config"
}

teardown() {
    rm -rf "$TEST_DIR"
}

# Whatever is asked for: where a package of kernel/config, or of it and FILE, would be kept.
place_of() { # [FILE]
    cat kernel/config "$@" | awk -F= '/^CONFIG_/ {if (!($1 in l)) n[++k] = $1; l[$1] = $0} END {for (i = 1; i <= k; i++) print l[n[i]]}' |
        sha256sum | cut -c1-12
}

@test "a configuration that grants everything passes" {
    run scripts/compile-kernel --check kernel/config "$TEST_DIR/config"
    [ "$status" -eq 0 ]
    [ -z "$output" ]
}

@test "an option that Kconfig dropped is named" {
    sed -i 's/^CONFIG_OVERLAY_FS=y$/# CONFIG_OVERLAY_FS is not set/; /^CONFIG_VETH=y$/d' "$TEST_DIR/config"
    run scripts/compile-kernel --check kernel/config "$TEST_DIR/config"
    [ "$status" -eq 1 ]
    [[ "$output" == *CONFIG_OVERLAY_FS=y* ]]
    [[ "$output" == *CONFIG_VETH=y* ]]
    [[ "$output" != *CONFIG_BRIDGE=y* ]]
}

@test "so is one that is on although it shall be off" {
    sed -i 's/^# CONFIG_VT is not set$/CONFIG_VT=y/' "$TEST_DIR/config"
    run scripts/compile-kernel --check kernel/config "$TEST_DIR/config"
    [ "$status" -eq 1 ]
    [[ "$output" == *CONFIG_VT=n* ]]
}

@test "both kernels' fragments say each name once, and have no modules" {
    for fragment in kernel/config lab/kernel.config; do
        run sh -c "sed -n 's/^\(CONFIG_[A-Za-z0-9_]*\)=.*/\1/p' $fragment | sort | uniq -d"
        [ -z "$output" ] || { echo "$fragment: $output"; return 1; }
        run grep -E '^CONFIG_(MODULES=|.*=m$)' "$fragment"
        [ "$status" -eq 1 ]
    done
}

@test "a kernel that was built is found, another configuration is another kernel" {
    [ -z "$(kernel/build --built)" ]
    local dir=$TEST_DIR/dayfly/kernels/6.12.9-1-$(place_of)
    mkdir -p "$dir"
    touch "$dir/linux-image-6.12.9-dayfly_6.12.9-1_amd64.deb"
    [ "$(kernel/build --built)" = "$dir/linux-image-6.12.9-dayfly_6.12.9-1_amd64.deb" ]

    printf '# mine\nCONFIG_XFS_FS=y\nCONFIG_VT=y\n' >"$TEST_DIR/mine"
    [ -z "$(kernel/build --with "$TEST_DIR/mine" --built)" ]
    dir=$TEST_DIR/dayfly/kernels/6.12.9-1-$(place_of "$TEST_DIR/mine")
    mkdir "$dir"
    touch "$dir/linux-image-6.12.9-dayfly_6.12.9-1_amd64.deb"
    [ "$(kernel/build --with "$TEST_DIR/mine" --built)" = "$dir/linux-image-6.12.9-dayfly_6.12.9-1_amd64.deb" ]
}

@test "what is asked for wrongly is said, with what would be right" {
    run kernel/build --with "$TEST_DIR/nowhere"
    [ "$status" -eq 1 ]
    [[ "$output" == *"--with takes a file"* ]]
    run kernel/build --jobs many
    [ "$status" -eq 1 ]
    run kernel/build --fast
    [ "$status" -eq 1 ]
    [[ "$output" == *"kernel/build --help"* ]]
}
