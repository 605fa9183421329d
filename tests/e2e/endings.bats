#!/usr/bin/env bats
# However a run ends, nothing of it stays.

load common

# Start a job in the background that prints a line and then waits; return when the line is there.
start_waiting_job() {
    mkfifo "$TEST_DIR/out"
    "$DAYFLY" run --engine "$ENGINE" --cpus 1 --memory 256MiB "$@" tests -- sh -c "trap 'echo got INT; exit 30' INT
        trap 'echo got TERM; exit 31' TERM; echo waiting; while :; do sleep 0.1; done" \
        >"$TEST_DIR/out" 2>"$TEST_DIR/err" 3>&- &
    RUNNER=$!
    exec 7<"$TEST_DIR/out"
    read -r -t "$LIMIT" line <&7
    [ "$line" = waiting ]
}

@test "after a run nothing is left" {
    run job -- sh -c 'sleep 100 & echo done'
    [ "$status" -eq 0 ]
    nothing_left
}

@test "the time limit ends a run with 124" {
    run job --timeout 1s -- sleep 1000
    [ "$status" -eq 124 ]
    [[ "$output" == *"1s"* ]]
    nothing_left
}

@test "Ctrl-C reaches the command, and its exit status comes back" {
    start_waiting_job
    kill -INT "$RUNNER"
    read -r -t "$LIMIT" line <&7
    [ "$line" = "got INT" ]
    status=0; wait "$RUNNER" || status=$?
    [ "$status" -eq 30 ]
    nothing_left
}

@test "SIGTERM reaches the command, and its exit status comes back" {
    start_waiting_job
    kill -TERM "$RUNNER"
    read -r -t "$LIMIT" line <&7
    [ "$line" = "got TERM" ]
    status=0; wait "$RUNNER" || status=$?
    [ "$status" -eq 31 ]
    nothing_left
}

@test "SIGTERM while the machine starts ends the run with 143" {
    "$DAYFLY" run --engine "$ENGINE" tests -- sleep 1000 2>"$TEST_DIR/err" 3>&- &
    local runner=$!
    # As soon as the program has made its signals its own; before that the shell's default would do.
    until grep -q '^SigBlk:.*[4-7c-f]...$' "/proc/$runner/status"; do :; done
    kill -TERM "$runner"
    status=0; wait "$runner" || status=$?
    [ "$status" -eq 143 ]
    nothing_left
}

@test "kill -9 of the runner leaves nothing" {
    start_waiting_job
    [ -n "$(marked)" ]
    kill -KILL "$RUNNER"
    status=0; wait "$RUNNER" || status=$?
    [ "$status" -eq 137 ]
    # The cgroups of a sandbox have names; the next run takes them away.
    if [ "$ENGINE" = user ]; then job -- true; fi
    nothing_left
}
