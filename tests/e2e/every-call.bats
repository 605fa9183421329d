#!/usr/bin/env bats
# A whole run with a fault at every call in turn: no memory, no descriptors, no space, I/O errors, interruptions, short
# counts, killed processes. Never a crash, a hang, a status that is not documented, or something left. A part of the
# calls, another each time; with DAYFLY_TEST_LONG=1 all of them. tests/faults/every_call.py has options to repeat one.

load common

every_call() { # OPTION ...
    [ "$(id -u)" -eq 0 ] || skip "root alone may trace what changes its user"
    run tests/faults/every_call.py build/tests/faults/fault-at build/tests/faults/no-memory.so "$DAYFLY" --engine "$ENGINE" "$@"
    echo "$output"
    [ "$status" -eq 0 ]
    nothing_left
}

# The step between calls that are struck, from a random one on.
part() { # STEP
    if [ -n "${DAYFLY_TEST_LONG:-}" ]; then echo --step 1; else echo --step "$1" --first $((RANDOM % $1 + 1)); fi
}

@test "every call in turn: errors" {
    [ "$ENGINE" = user ] || long
    local kinds=(--kind malloc --kind EMFILE --kind ENOMEM --kind EIO --kind ENOSPC)
    if [ "$ENGINE" = user ]; then
        # shellcheck disable=SC2046
        every_call "${kinds[@]}" $(part 35)
    else
        every_call "${kinds[@]}" --step 50 --first $((RANDOM % 50 + 1))
    fi
}

@test "every call in turn: interruptions and short counts are not noticed" {
    [ "$ENGINE" = user ] || skip "QEMU's own calls are not ours to judge"
    # shellcheck disable=SC2046
    every_call --kind EINTR --kind short $(part 10)
}

@test "every call in turn: killed processes" {
    [ "$ENGINE" = user ] || long
    if [ "$ENGINE" = user ]; then
        # shellcheck disable=SC2046
        every_call --kind kill-other --kind kill $(part 35)
    else
        every_call --kind kill-other --kind kill --step 50 --first $((RANDOM % 50 + 1))
    fi
}
