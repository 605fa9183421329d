#!/usr/bin/env bats
# The exercisers themselves: they find nothing wrong with the file systems of this host, and they do find
# a system call that lies. $SHARE_EXERCISE is the program.

setup() {
    WORK=$(mktemp -d)
    # A file system of another kind to compare with, where there is one.
    OTHER=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
}

teardown() {
    rm -rf "$WORK" "$OTHER"
}

# After a run that went well nothing is left.
is_empty() {
    [ -z "$(ls -A "$WORK")" ]
}

# fails COMMAND...: it ends with 1, which means a difference, and says where.
finds_a_difference() {
    run "$SHARE_EXERCISE" "$@"
    echo "$output" | grep -v '^ok' | tail -n 20
    [ "$status" -eq 1 ]
    [[ "$output" == *DIFFERENCE* || "$output" == *"not ok"* ]]
}

@test "posix: all cases hold here" {
    # "directories are synced" waits for all that anybody has written to this disk: below, in memory, it
    # does not.
    "$SHARE_EXERCISE" posix --only '[!d]*' "$WORK"
    is_empty
}

@test "posix: all cases hold on another file system, and on one that gets full" {
    local small=()
    mkdir "$OTHER/small"
    if mount -t tmpfs -o size=8m tmpfs "$OTHER/small" 2>/dev/null; then
        small=(--must small --small "$OTHER/small")
    fi
    run "$SHARE_EXERCISE" posix "${small[@]}" "$OTHER"
    umount "$OTHER/small" 2>/dev/null || true
    echo "$output" | grep -v '^ok'
    [ "$status" -eq 0 ]
}

@test "posix: a need that is not met is skipped, or fails when it must be met" {
    run "$SHARE_EXERCISE" posix --only 'more is reserved*' "$WORK"
    [ "$status" -eq 0 ]
    [[ "$output" == *"# skip"* ]]
    run "$SHARE_EXERCISE" posix --only 'more is reserved*' --must small "$WORK"
    [ "$status" -eq 1 ]
}

@test "posix: system calls that lie are found" {
    local call
    for call in rename unlink chmod utimens truncate flock setlk; do
        finds_a_difference posix --break "$call" "$OTHER"
    done
}

@test "differential: two file systems agree" {
    "$SHARE_EXERCISE" differential --operations 3000 "$WORK" "$OTHER"
    is_empty
}

@test "differential: the same seed does the same again" {
    mkdir -p "$OTHER/2"
    "$SHARE_EXERCISE" differential --seed 7 --operations 1000 --verbose "$OTHER" "$OTHER/2" >"$OTHER/first"
    "$SHARE_EXERCISE" differential --seed 7 --operations 1000 --verbose "$OTHER" "$OTHER/2" >"$OTHER/second"
    cmp "$OTHER/first" "$OTHER/second"
}

@test "differential: system calls that lie on one side are found" {
    local call
    mkdir "$OTHER/2"
    for call in rename unlink link mkdir mknod chmod utimens truncate write copy; do
        finds_a_difference differential --seed 5 --operations 3000 --break "$call" "$OTHER" "$OTHER/2"
        [[ "$output" == *"seed 5"* ]]
        rm -rf "$OTHER/differential" "$OTHER/2/differential"
    done
}

@test "manifest: tells trees apart" {
    mkdir -p "$WORK/a/d" "$WORK/b"
    echo text >"$WORK/a/d/f"
    ln "$WORK/a/d/f" "$WORK/a/g"
    ln -s f "$WORK/a/l"
    touch -d @1000000000.5 "$WORK/a/d/f"
    cp -a "$WORK/a/." "$WORK/b/"
    "$SHARE_EXERCISE" manifest "$WORK/a" >"$OTHER/a"
    "$SHARE_EXERCISE" manifest "$WORK/b" | diff "$OTHER/a" -
    # One change each that shows: time, mode, content, link.
    touch -d @1000000000.6 "$WORK/b/g"
    run diff "$OTHER/a" <("$SHARE_EXERCISE" manifest "$WORK/b")
    [ "$status" -eq 1 ]
    touch -d @1000000000.5 "$WORK/b/g"
    chmod 755 "$WORK/b/d" && chmod 750 "$WORK/a/d"
    run diff <("$SHARE_EXERCISE" manifest "$WORK/a") <("$SHARE_EXERCISE" manifest "$WORK/b")
    [ "$status" -eq 1 ]
    chmod 755 "$WORK/a/d"
    cp -a "$WORK/b/g" "$WORK/b/h" && mv "$WORK/b/h" "$WORK/b/g"
    run diff <("$SHARE_EXERCISE" manifest "$WORK/a") <("$SHARE_EXERCISE" manifest "$WORK/b")
    [ "$status" -eq 1 ]
}

@test "file: agrees with its model, at several places" {
    local base
    for base in 0 4294901760 1G; do
        "$SHARE_EXERCISE" file --operations 300 --base "$base" "$WORK"
        "$SHARE_EXERCISE" file --operations 3000 --base "$base" "$OTHER"
    done
    is_empty
}

@test "file: system calls that lie are found" {
    local call
    for call in truncate write copy; do
        finds_a_difference file --seed 5 --operations 2000 --break "$call" "$OTHER"
        rm "$OTHER/exercised-file"
    done
}

@test "tree: is sound" {
    "$SHARE_EXERCISE" tree --operations 1500 "$WORK"
    is_empty
}

@test "tree: a system call that lies is found" {
    finds_a_difference tree --break write "$OTHER"
}

@test "synced: what was said to be synced is there, and a loss is found" {
    "$SHARE_EXERCISE" synced --seed 3 --rounds 30 write "$WORK" >"$OTHER/lines"
    "$SHARE_EXERCISE" synced verify "$WORK" <"$OTHER/lines"
    # The last bytes of a file that are missing.
    truncate -s -1 "$WORK/log"
    run "$SHARE_EXERCISE" synced verify "$WORK" <"$OTHER/lines"
    [ "$status" -eq 1 ]
    [[ "$output" == *"log does not hold"* ]]
}

@test "all: help, and what is no use" {
    local command
    "$SHARE_EXERCISE" --help | grep -q differential
    for command in posix differential manifest file tree synced; do
        "$SHARE_EXERCISE" "$command" --help | grep -q "^Usage: share-exercise $command "
        run "$SHARE_EXERCISE" "$command"
        [ "$status" -eq 2 ]
    done
    run "$SHARE_EXERCISE" nonsense
    [ "$status" -eq 2 ]
}
