#!/usr/bin/env bats
# The writable layer: encrypted where it is kept, the same at every start, gone with the job.

load common

# The files without a name that a process has open, memory left out.
nameless_files() {
    local fd
    for fd in /proc/"$1"/fd/*; do
        [[ "$(readlink "$fd")" =~ /#[0-9]+\ \(deleted\)$ ]] && echo "$fd"
    done
    return 0
}

@test "what a job wrote and synced is not to be read in its file" {
    local marker="the job's own words $RANDOM $RANDOM" pid fd bytes=0
    mkfifo "$TEST_DIR/in" "$TEST_DIR/out"
    "$DAYFLY" run -i --engine "$ENGINE" --cpus 1 --memory 256MiB --disk 64MiB tests -- sh -c '
        read -r marker
        for i in $(seq 1000); do echo "$marker $i"; done >/marked
        sync; echo synced; read -r _; grep -c "$marker" /marked' <"$TEST_DIR/in" >"$TEST_DIR/out" &
    pid=$!
    exec 7>"$TEST_DIR/in" 8<"$TEST_DIR/out"
    echo "$marker" >&7
    read -r -t "$LIMIT" line <&8
    [ "$line" = synced ]
    grep -Eq '^Max core file size +0 ' "/proc/$pid/limits"
    for fd in $(nameless_files "$pid"); do
        bytes=$((bytes + $(stat -L -c '%b * %B' "$fd")))
        if grep -aq "the job's own words" "$fd"; then
            echo "plaintext in $(readlink "$fd")"
            return 1
        fi
    done
    # There is such a file, and the marker's 30 KiB and more have reached it.
    [ "$bytes" -ge 30000 ]
    echo go on >&7
    read -r -t "$LIMIT" line <&8
    [ "$line" = 1000 ]
    wait "$pid"
    exec 7>&- 8<&-
    nothing_left
}

@test "two jobs at once begin on one template, and change only their own" {
    local i
    for i in 1 2; do
        job --disk 64MiB -- sh -c "ls /mine 2>/dev/null; echo $i >/mine; sync; cat /mine" >"$TEST_DIR/out.$i" &
    done
    wait
    [ "$(cat "$TEST_DIR/out.1")" = 1 ]
    [ "$(cat "$TEST_DIR/out.2")" = 2 ]
    [ -f "$DAYFLY_HOME/templates/ext4-1-67108864" ]
}

@test "what is written where something was deleted reads back" {
    run job --disk 256MiB -- sh -c '
        dd if=/dev/urandom of=/fill bs=1M count=40 2>/dev/null; sync; rm /fill; sync
        dd if=/dev/urandom of=/again bs=1M count=40 2>/dev/null; md5sum </again >/sum; sync
        echo 3 >/proc/sys/vm/drop_caches; md5sum </again | cmp - /sum && echo same'
    [ "$status" -eq 0 ]
    [ "${lines[-1]}" = same ]
    nothing_left
}
