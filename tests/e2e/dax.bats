#!/usr/bin/env bats
# The DAX window: what a guest maps is the host's page cache, whatever the host does with the file.

load common

needs_window() {
    [ "$DAYFLY_TEST_ENGINE" = kvm ] || skip "engine $DAYFLY_TEST_ENGINE has no DAX window"
}

# What is shared: a file of 4 MiB of "a", and the program for the guest.
make_share() {
    needs_window
    mkdir "$TEST_DIR/dir"
    FILE=$TEST_DIR/dir/file
    fill a
    cp build/tests/share/share-exercise "$TEST_DIR/dir/"
    case $(stat -f -c %T "$TEST_DIR/dir") in
    ext2/ext3 | xfs | btrfs | tmpfs | f2fs) ;;
    *) skip "no file system for a DAX window: $(stat -f -c %T "$TEST_DIR/dir")" ;;
    esac
}

# fill LETTER: the whole file, without making it shorter meanwhile.
fill() {
    head -c 4194304 /dev/zero | tr '\0' "$1" | dd of="$FILE" bs=1M conv=notrunc status=none
}

# guest CMD...: start it; ask talks to it.
start_guest() {
    coproc GUEST { job -i --share "$TEST_DIR/dir:/s:dax=64MiB" -- "$@"; }
}

# ask COMMAND WANTED: one line there, one line back.
ask() {
    local answer
    echo "$1" >&"${GUEST[1]}"
    read -rt "$LIMIT" answer <&"${GUEST[0]}"
    [ "$answer" = "$2" ] || { echo "$1: $answer, not $2"; return 1; }
}

end_guest() {
    local pid=$GUEST_PID
    eval "exec ${GUEST[1]}>&-"
    wait "$pid"
}

@test "a mapping is the file: each side sees at once what the other writes" {
    make_share
    start_guest /s/share-exercise mapped /s/file
    ask "peek 5000" 97
    printf H | dd of="$FILE" bs=1 seek=5000 conv=notrunc status=none
    ask "peek 5000" 72
    ask "poke 3000000 71" ok
    [ "$(dd if="$FILE" bs=1 skip=3000000 count=1 status=none)" = G ]
    end_guest
    nothing_left
}

@test "a file that the host makes shorter while it is mapped ends no machine" {
    make_share
    start_guest /s/share-exercise mapped /s/file
    ask "peek 3000000" 97
    ask "peek 10" 97
    truncate -s 4097 "$FILE"
    ask "peek 3000000" 0
    ask "peek 4096" 97
    ask "peek 4097" 0
    ask "poke 4000000 1" ok
    # What the guest wrote behind the end is nowhere. The file grows, and the guest learns of it.
    [ "$(stat -c %s "$FILE")" -eq 4097 ]
    fill n
    ask "size" 4194304
    ask "peek 3000000" 110
    ask "peek 4000000" 110
    ask "poke 4000001 71" ok
    [ "$(dd if="$FILE" bs=1 skip=4000001 count=1 status=none)" = G ]
    end_guest
    nothing_left
}

@test "every file by the window: random reads, writes and mappings, then a look from the host" {
    make_share
    run job --share "$TEST_DIR/dir:/s:dax=4MiB" -- sh -ec '
        cp /s/share-exercise /tmp/
        umount /s
        mount -t virtiofs -o dax=always share0 /s
        grep " /s .*dax=always" /proc/mounts
        mkdir /s/work
        /tmp/share-exercise file /s/work
        md5sum /s/file'
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"$(md5sum <"$FILE" | cut -d" " -f1)"* ]]
    nothing_left
}

@test "with mode cow a window is refused, and on overlayfs there is none" {
    needs_window
    mkdir "$TEST_DIR/dir"
    run job --share "$TEST_DIR/dir:/s:cow,dax=64MiB" -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *"leave out dax"* ]]
    if [ "$EUID" -eq 0 ]; then
        mkdir "$TEST_DIR"/{low,up,work}
        mount -t overlay -o "lowerdir=$TEST_DIR/low,upperdir=$TEST_DIR/up,workdir=$TEST_DIR/work" \
            overlay "$TEST_DIR/dir" || skip "no overlayfs here"
        run job -v --share "$TEST_DIR/dir:/s:dax=64MiB" -- sh -c 'echo fine >/s/file; cat /s/file'
        umount "$TEST_DIR/dir"
        echo "$output"
        [ "$status" -eq 0 ]
        [[ "$output" == *fine* ]]
        [[ "$output" == *"no DAX window"* ]]
    fi
}
