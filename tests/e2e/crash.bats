#!/usr/bin/env bats
# What was acknowledged as flushed outlives the monitor, however it ends: it is killed while a guest writes,
# and the next machine on the same disk verifies it. The host's kernel survives, so this is about our order
# and our acknowledgements; src/block/cut_test.c is about power that fails. DAYFLY_TEST_LONG=1 kills it more
# often.

load common
load disk

ROUNDS=4
if [ -n "${DAYFLY_TEST_LONG:-}" ]; then ROUNDS=40; fi

# As a disk the log has whole sectors; the exerciser ignores what is no line of its own.
write_log() {
    cp "$TEST_DIR/log" "$TEST_DIR/log.img"
    truncate -s %512 "$TEST_DIR/log.img"
    [ -s "$TEST_DIR/log.img" ] || truncate -s 512 "$TEST_DIR/log.img"
}

machine() { # CACHE
    describe "disk-exercise work /dev/vda /dev/vdb $SEED" \
        "[{path: disk.img, cache: $1}, {path: log.img, read_only: true}]"
}

@test "nothing that was flushed is lost when the monitor is killed" {
    local round kills line cache
    SEED=$RANDOM
    echo "seed $SEED"
    : >"$TEST_DIR/log"
    truncate -s 16M "$TEST_DIR/disk.img"
    for round in $(seq "$ROUNDS"); do
        cache=cached
        if [ $((round % 2)) -eq 0 ]; then cache=direct; fi
        write_log
        machine "$cache"
        # The lab's files are in memory, which an old kernel does not let be used so.
        if [ "$cache" = direct ] && ! "$DAYFLY" validate "$TEST_DIR/machine.yaml"; then
            cache=cached
            machine "$cache"
        fi
        start
        # An event to wait for, not a time: so many flushes.
        kills=$((RANDOM % 200 + 10))
        while [ "$kills" -gt 0 ]; do
            read -r -t "$LIMIT" line <&7 || { cat "$TEST_DIR/err"; false; }
            echo "${line%$'\r'}" >>"$TEST_DIR/log"
            case $line in
            verified*) echo "round $round, $cache: $line" ;;
            LOST* | disk-exercise*) echo "round $round, $cache: $line" && false ;;
            flushed*) kills=$((kills - 1)) ;;
            esac
        done
        kill -KILL "$RUNNER"
        # What it said before it died, but not a line that was cut.
        while read -r line <&7; do echo "${line%$'\r'}" >>"$TEST_DIR/log"; done
        exec 7<&-
        wait "$RUNNER" || true
        RUNNER=
    done
    [ "$(grep -c '^verified' "$TEST_DIR/log")" -eq "$ROUNDS" ]

    run build/tests/disk/disk-exercise verify "$TEST_DIR/disk.img" "$TEST_DIR/log" "$SEED"
    echo "at the end: $output"
    [ "$status" -eq 0 ]
    [[ ! "$output" =~ " 0 sectors were promised" ]]
    # And it would have noticed.
    dd if=/dev/zero of="$TEST_DIR/disk.img" bs=512 count=2048 conv=notrunc status=none
    run build/tests/disk/disk-exercise verify "$TEST_DIR/disk.img" "$TEST_DIR/log" "$SEED"
    [ "$status" -eq 1 ]
    [[ "$output" =~ LOST ]]
    nothing_left
}
