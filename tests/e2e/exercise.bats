#!/usr/bin/env bats
# Shared folders behave as a file system of the guest's own: tests/share exercises them from inside. With
# DAYFLY_TEST_LONG=1 it does so for some minutes; a run that failed says the seed that repeats it.

load common

EXERCISE=$BATS_TEST_DIRNAME/../../build/tests/share/share-exercise
MANY=1
if [ -n "${DAYFLY_TEST_LONG:-}" ]; then MANY=20; fi

# What the guest is given: programs, a share to work on, a place for what it found out.
lay_out() {
    mkdir -p "${TEST_DIR:?}"/{bin,share,out}
    cp "$EXERCISE" "$TEST_DIR/bin/exercise"
    LIMIT=${DAYFLY_TEST_LIMIT:-$((MANY > 1 ? 3600 : 300))}
}

# exercise OPTIONS SCRIPT [RUN-OPTION...]: run it in a guest where the share is /share, with these options.
exercise() {
    local options=$1 script=$2
    shift 2
    lay_out
    run job --share "$TEST_DIR/bin:/opt:ro" --share "$TEST_DIR/out:/out" \
        --share "$TEST_DIR/share:/share:$options" "$@" -- sh -ec "PATH=/opt:\$PATH; $script"
    # What went well need not be read.
    grep -v '^ok [^#]*$' <<<"$output" || true
    [ "$status" -eq 0 ]
}

# Random work on the share and in the guest's memory: every result, and in the end all files, agree.
work() { # COUNT
    echo "mkdir /ref && mount -t tmpfs ref /ref
        exercise differential --operations $(($1 * MANY)) --keep /share /ref
        exercise file --operations $(($1 / 2 * MANY)) /share
        exercise file --operations $(($1 / 10 * MANY)) --base 4294963200 /share
        exercise tree --operations $(($1 / 4 * MANY)) --keep /share"
}

# What Linux's virtio-fs driver cannot do: take back a request, hence a lock that somebody waits for.
POSIX='exercise posix --skip "a waiting lock*"'

# The guest and the host see the same tree.
same_manifest() { # OPTION...
    "$EXERCISE" manifest "$@" "$TEST_DIR/share" | diff "$TEST_DIR/out/manifest" -
    [ "$(wc -l <"$TEST_DIR/out/manifest")" -ge 5 ]
}

@test "a share is a POSIX file system" {
    exercise xattr "$POSIX --must xattr,mmap,punch,tmpfile,exchange /share"
    [ "$(grep -c '^ok' <<<"$output")" -ge 100 ]
    [ -z "$(ls -A "$TEST_DIR/share")" ]
}

@test "a share is a POSIX file system for several users, and when it is full" {
    [ "$(id -u)" -eq 0 ] || skip "other users' files need root"
    mkdir "$TEST_DIR/small"
    mount -t tmpfs -o size=8m tmpfs "$TEST_DIR/small" || skip "no mounts here"
    exercise ids=identity,xattr "for what in 'ow*' 'ac*' 'se*' 'st*' 'wh*' 'ti*' 'ex*' 'd[e]*' 'a [fd]*' 'mor*' 'res*'; do
        $POSIX --must owners,xattr,acl,small --small /small --only \"\$what\" /share
        done" --share "$TEST_DIR/small:/small:ids=identity,xattr" || {
        umount "$TEST_DIR/small"
        return 1
    }
    umount "$TEST_DIR/small"
    if [ "$MANY" -gt 1 ]; then exercise ids=identity,xattr,writeback "$POSIX /share"; fi
}

@test "a share and a local file system do the same" {
    exercise xattr "$(work 500); exercise manifest /share >/out/manifest"
    same_manifest
}

@test "a share and a local file system do the same, whoever's the files are" {
    [ "$(id -u)" -eq 0 ] || skip "other users' files need root"
    exercise ids=identity,xattr "$(work 300); exercise manifest --owners /share >/out/manifest"
    same_manifest --owners
}

@test "a share and a local file system do the same, with a write-back cache" {
    exercise writeback "$(work 300); exercise manifest /share >/out/manifest"
    same_manifest
}

@test "a share and a local file system do the same, without a cache" {
    exercise cache=none "$(work 200); exercise manifest /share >/out/manifest"
    same_manifest
}

@test "a share that keeps its changes apart does the same, and leaves the host's files alone" {
    mkdir -p "$TEST_DIR/share/before"
    echo text >"$TEST_DIR/share/before/file"
    "$EXERCISE" manifest "$TEST_DIR/share" >"$TEST_DIR/before"
    exercise cow,xattr "$(work 300); rm -r /share/before"
    "$EXERCISE" manifest "$TEST_DIR/share" | diff "$TEST_DIR/before" -
}

# The machine is gone at once, as in a power cut: it is killed while it works.
cut_power() { # OPTIONS
    lay_out
    mkfifo "$TEST_DIR/pipe"
    timeout -k 10 "$LIMIT" "$DAYFLY" run --engine "$ENGINE" --cpus 1 --memory 256MiB \
        --share "$TEST_DIR/bin:/opt:ro" --share "$TEST_DIR/share:/share:$1" tests -- \
        /opt/exercise synced write /share >"$TEST_DIR/pipe" 2>"$TEST_DIR/err" 3>&- &
    local runner=$! pid line
    exec 7<"$TEST_DIR/pipe"
    while read -r -t "$LIMIT" line <&7; do
        echo "$line" >>"$TEST_DIR/lines"
        if [ "$(wc -l <"$TEST_DIR/lines")" -gt $((30 * MANY)) ]; then break; fi
    done
    # timeout(1) is the runner's parent, and passes no SIGKILL on.
    for pid in $(marked); do kill -KILL "$pid"; done
    # Whatever it still managed to say counts.
    cat <&7 >>"$TEST_DIR/lines"
    wait "$runner" || true
    nothing_left
    "$EXERCISE" synced verify "$TEST_DIR/share" <"$TEST_DIR/lines"
}

@test "what fsync promised survives the end of the machine" {
    cut_power rw
}

@test "what fsync promised survives the end of the machine, with a write-back cache" {
    cut_power writeback
}
