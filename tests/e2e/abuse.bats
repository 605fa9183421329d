#!/usr/bin/env bats
# Jobs that do their worst: the agent still answers, the run still ends, nothing is left.

load common

# The report's resources are the agent's answer to a question put after the command has ended.
agent_answered() {
    grep -q '"guest_memory_peak_bytes": [1-9]' "$TEST_DIR/report.json"
}

@test "a full disk is the job's problem only" {
    machine_only "the job is not root"
    run job --disk 64MiB --report "$TEST_DIR/report.json" -- sh -c '
        dd if=/dev/zero of=/fill bs=1M 2>&1; echo "status $?"; rm /fill; echo again >/fill && cat /fill'
    [ "$status" -eq 0 ]
    [[ "$output" == *"No space left"* ]]
    [[ "$output" == *again* ]]
    agent_answered
}

@test "a disk left full still answers" {
    machine_only "the job is not root"
    run job --disk 64MiB --report "$TEST_DIR/report.json" -- sh -c 'dd if=/dev/zero of=/fill bs=1M 2>/dev/null; exit 9'
    [ "$status" -eq 9 ]
    agent_answered
    nothing_left
}

@test "eating all memory kills the job, not the machine" {
    local memory=256MiB
    [ -z "${DAYFLY_IN_LAB:-}" ] || memory=128MiB # an emulated kernel takes its time to find that there is no more
    run job --memory "$memory" --report "$TEST_DIR/report.json" -- sh -c '
        awk "BEGIN { s = \"x\"; while (1) s = s s }"; echo "awk: $?"; exit 3'
    [ "$status" -eq 3 ] || [ "$status" -eq 137 ]
    agent_answered
    nothing_left
}

@test "a fork bomb is bounded, and the run ends" {
    local limit=60s
    if [ "$ENGINE" = user ]; then limit=5s; fi
    run job --report "$TEST_DIR/report.json" --timeout "$limit" -- sh -c '
        bomb() { bomb | bomb & }
        bomb 2>/dev/null
        sleep 2
        exit 5'
    # The shell itself may be out of processes, or killed for the memory of all its children; and one of
    # thousands that share what a group of processes may use of a processor, it may never come to its end.
    [ "$status" -eq 5 ] || [ "$status" -eq 2 ] || [ "$status" -eq 137 ] ||
        { [ "$ENGINE" = user ] && [ "$status" -eq 124 ]; }
    agent_answered
    nothing_left
}

@test "killing every process it can leaves the agent" {
    run job --report "$TEST_DIR/report.json" -- sh -c 'kill -9 -1; kill -9 1; echo survived; exit 6'
    [ "$status" -eq 6 ]
    [[ "$output" == *survived* ]]
    agent_answered
}

@test "unmounting what it can leaves the agent" {
    run job --report "$TEST_DIR/report.json" -- sh -c 'umount -a -l 2>/dev/null; rm -rf /dev/* 2>/dev/null; exit 8'
    [ "$status" -eq 8 ]
    agent_answered
}

@test "output that nobody reads does not grow, and ends with the reader" {
    run bash -c "timeout 100 $DAYFLY run --engine $ENGINE tests -- yes | head -n 3"
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 3 ]
    nothing_left
}

@test "links that a job puts into a share lead neither artifacts nor the report out of it" {
    user_or_long
    mkdir -p "$TEST_DIR/src/logs" "$TEST_DIR/outside"
    echo mine >"$TEST_DIR/victim"
    cd "$TEST_DIR/src"
    local made='echo x >/tmp/x; rmdir logs; ln -s '"$TEST_DIR"'/outside logs; ln -s '"$TEST_DIR"'/outside new
        rm -f file; ln -s '"$TEST_DIR"'/victim file; ln -s /dev/null special'
    run job --share .:/src --workdir /src --artifact '/tmp/x:logs/' --report file -- sh -c "$made"
    echo "$output"
    [ "$status" -eq 125 ]
    [[ "$output" == *"new link"* ]]
    [ -f file ] && [ ! -L file ]
    rm -f logs new file special
    mkdir logs
    run job --share .:/src --workdir /src --artifact '/tmp/x:new/below/' --report special -- sh -c "$made"
    [ "$status" -eq 125 ]
    [ -f special ]
    [ -z "$(ls -A "$TEST_DIR/outside")" ]
    [ "$(cat "$TEST_DIR/victim")" = mine ]
}
