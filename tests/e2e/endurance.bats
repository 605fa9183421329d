#!/usr/bin/env bats
# Many jobs, in a row and at once: each is clean, and nothing grows. With DAYFLY_TEST_LONG=1 a hundred and sixteen.

load common

ENDURANCE=$BATS_TEST_DIRNAME/../../build/tests/endurance/endurance

# A job of the command line with its audit; the exit status says what it found.
audited() {
    timeout -k 10 "$LIMIT" "$DAYFLY" run --engine "$ENGINE" --audit --cpus 1 --memory 128MiB --disk 64MiB \
        --net none tests -- sh -c 'echo x >/tmp/x; sleep 1000 & exit 0'
}

# What the data takes: names and sizes. Templates are made once for each size of a layer.
store_size() {
    find "$DAYFLY_HOME" -path "$DAYFLY_HOME/templates" -prune -o -printf '%P %s\n' | sort
}

@test "one process: job after job, its descriptors, threads and memory do not grow" {
    user_or_long
    local count=30
    if [ -n "${DAYFLY_TEST_LONG:-}" ]; then count=100; fi
    run timeout 3000 "$ENDURANCE" "$ENGINE" tests "$count"
    echo "$output"
    [ "$status" -eq 0 ]
    nothing_left
}

@test "one process: jobs on sixteen threads" {
    long
    run timeout 3000 "$ENDURANCE" "$ENGINE" tests 10 16
    echo "$output"
    [ "$status" -eq 0 ]
    nothing_left
}

@test "a hundred in a row: each is clean, the store is what it was" {
    long
    local i
    audited
    store_size >"$TEST_DIR/store"
    for ((i = 0; i < 100; i++)); do audited; done
    store_size | diff "$TEST_DIR/store" -
    nothing_left
}

@test "sixteen at once: each is clean, the store is what it was" {
    user_or_long
    local i pids=()
    if [ -n "${DAYFLY_TEST_LONG:-}" ]; then LIMIT=600; fi
    audited
    store_size >"$TEST_DIR/store"
    for ((i = 0; i < 16; i++)); do
        audited 3>&- &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i"; done
    store_size | diff "$TEST_DIR/store" -
    nothing_left
}

@test "twenty at once, all of them up" {
    long
    local i fd seen=0 pids=() held=()
    for ((i = 0; i < 20; i++)); do
        mkfifo "$TEST_DIR/hold.$i"
        "$DAYFLY" run -i -q --engine "$ENGINE" --net none --cpus 1 --memory 128MiB tests -- \
            sh -c 'echo up; read -r word; echo "$word"' <"$TEST_DIR/hold.$i" >"$TEST_DIR/out.$i" 3>&- &
        pids+=($!)
        exec {fd}>"$TEST_DIR/hold.$i"
        held+=("$fd")
    done
    for ((i = 0; i < 600 && seen < 20; i++)); do
        sleep 1
        seen=$(cat "$TEST_DIR"/out.* | grep -cx up) || true
    done
    [ "$seen" -eq 20 ]
    for i in "${pids[@]}"; do kill -0 "$i"; done
    for fd in "${held[@]}"; do
        echo down >&"$fd"
        exec {fd}>&-
    done
    for i in "${pids[@]}"; do wait "$i"; done
    [ "$(cat "$TEST_DIR"/out.* | grep -cx down)" -eq 20 ]
    nothing_left
}
