#!/usr/bin/env bats
# What a job leaves is there for nobody: not for another job beside it, not for the next one, not on the host.
# tests/remains leaves one thing of each kind and looks for them; where they were left it has to find all.

load common

REMAINS=$BATS_TEST_DIRNAME/../../build/tests/remains/remains
KINDS="abstract daemon environment file memory path posix-memory posix-queue process queue semaphore sleeper tcp"

eval "$(declare -f setup | sed '1s/setup/common_setup/')"

setup() {
    common_setup
    TOKEN=token$$x$BATS_TEST_NUMBER
    mkdir "$TEST_DIR/bin" "$TEST_DIR/out" "$TEST_DIR/tmp"
    chmod 755 "$TEST_DIR" # the job's user passes through it in engine user without root
    cp "$REMAINS" "$TEST_DIR/bin/remains"
    chown 1234:1235 "$TEST_DIR/out" 2>/dev/null || true
    # What Dayfly itself makes there is in no other's way.
    export TMPDIR=$TEST_DIR/tmp
}

# A job that has the program, on its own network.
with_remains() {
    job --share "$TEST_DIR/bin:/opt/bin:ro" --net none "$@"
}

# Such a job in the background, with what it leaves: its output on descriptor 7, its input on 8.
start_job_that_leaves() { # SCRIPT
    mkfifo "$TEST_DIR/talk" "$TEST_DIR/listen"
    with_remains -i --share "$TEST_DIR/out:/out" --env "MARK=$TOKEN" -- sh -c "$1" \
        <"$TEST_DIR/talk" >"$TEST_DIR/listen" 2>"$TEST_DIR/err" 3>&- &
    RUNNER=$!
    exec 8>"$TEST_DIR/talk" 7<"$TEST_DIR/listen"
}

# What the job says up to a line "end": kinds, each once.
kinds_found() {
    local line
    while read -r -t "$LIMIT" line <&7 && [ "$line" != end ]; do
        echo "$line" >>"$TEST_DIR/said"
        case $line in "found "*) line=${line#found } && echo "${line%% *}" ;; esac
    done | sort -u
}

# Every kind that a job could leave here. Keys are refused where the kernel has none.
expect_all() {
    local kind kinds=$KINDS
    # Where what is written may be the host's, engine user lets nobody make one (user.bats).
    if [ "$ENGINE" != user ]; then kinds+=" setuid"; fi
    for kind in $kinds; do
        grep -qx "$kind" <<<"$1" || { cat "$TEST_DIR/said" "$TEST_DIR/err" && echo "no $kind in it" && return 1; }
    done
}

# A look from the host: no process, key or other thing of the kernel's, no file but those of shares.
host_has_nothing() {
    local found
    found=$("$REMAINS" look "$TOKEN" "$TMPDIR")
    [ -z "$found" ] || { echo "on the host: $found" && return 1; }
}

@test "what a job leaves is there for it, but for no other job and not on the host" {
    start_job_that_leaves "/opt/bin/remains leave $TOKEN /out; /opt/bin/remains look $TOKEN /out; echo end
        read -r go; /opt/bin/remains look $TOKEN /out; echo end; read -r go; exit 0"
    all=$(kinds_found)
    expect_all "$all"
    # Beside it: one that looks, and kills whatever it can.
    run with_remains -- sh -c "/opt/bin/remains look $TOKEN; kill -9 -1; echo ended"
    grep -qx ended <<<"$output"
    ! grep found <<<"$output" || return 1
    # The first one has all of it still.
    echo go >&8
    [ "$(kinds_found)" = "$all" ]
    exec 8>&-
    wait "$RUNNER"
    host_has_nothing
    # Whoever waited for a later hour waits no more.
    touch "$TEST_DIR/out/go"
    run with_remains --share "$TEST_DIR/out:/out" -- /opt/bin/remains look "$TOKEN"
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    [ ! -e "$TEST_DIR/out/late" ]
    # What it made to run as its owner in a share is nobody's key to this host.
    [ -e "$TEST_DIR/out/$TOKEN" ]
    [ -z "$(find "$TEST_DIR/out" -perm /6000 -user 0)" ]
    nothing_left
}

@test "a sleeper that still has a job does what it waits for" {
    user_or_long
    start_job_that_leaves "/opt/bin/remains leave $TOKEN /out; echo end
        until [ -e /out/late ]; do sleep 0.1; done; echo late"
    kinds_found
    touch "$TEST_DIR/out/go"
    read -r -t "$LIMIT" line <&7
    [ "$line" = late ]
    exec 8>&-
    wait "$RUNNER"
}

@test "a fork bomb that goes off behind a job's back ends with it" {
    user_or_long
    local limit=60s
    if [ "$ENGINE" = user ]; then limit=5s; fi
    run with_remains --timeout "$limit" -- /opt/bin/remains bomb "$TOKEN"
    # One of thousands that share the job's memory, who waits for it may not come to its end.
    [[ "$output" == *"left bomb"* ]] || [ "$status" -eq 124 ]
    host_has_nothing
    run with_remains -- /opt/bin/remains look "$TOKEN"
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    nothing_left
}

# What on the host has the value of the file $TEST_DIR/value: files where it could have come to lie, and what
# processes show of themselves.
holders() {
    local pid fd
    grep -rlaF --exclude-dir=templates -f "$TEST_DIR/value" "$DAYFLY_HOME" /run/dayfly /dev/shm "$TMPDIR" /proc/[0-9]*/{environ,cmdline} 2>/dev/null
    # Files without a name, such as the layer on which the job writes. A guest's memory has it, of course.
    for pid in $(marked); do
        for fd in /proc/"$pid"/fd/*; do
            if [ -f "$fd" ] && [[ "$(readlink "$fd")" != /memfd:* ]]; then
                grep -laF -f "$TEST_DIR/value" "$fd" 2>/dev/null
            fi
        done
    done
    return 0
}

@test "a secret is on no disk and in no other job's reach, while its job runs and after" {
    user_or_long
    printf 's3cret-%s' "$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')" >"$TEST_DIR/value"
    mkfifo "$TEST_DIR/talk" "$TEST_DIR/listen"
    with_remains -i --disk 64MiB --secret "TOKEN=file:$TEST_DIR/value" --report "$TEST_DIR/report" -- sh -c '
        cat /run/secrets/TOKEN /run/secrets/TOKEN >~/copied || cat /run/secrets/TOKEN >/tmp/copied
        sync; echo end; read -r go; exit 0' <"$TEST_DIR/talk" >"$TEST_DIR/listen" 2>"$TEST_DIR/err" 3>&- &
    RUNNER=$!
    exec 8>"$TEST_DIR/talk" 7<"$TEST_DIR/listen"
    kinds_found
    [ -z "$(holders)" ]
    # Another job looks at all files and processes that it has.
    mkdir "$TEST_DIR/pattern"
    cp "$TEST_DIR/value" "$TEST_DIR/pattern/value"
    looking="grep -rlF -f /opt/value/value /run /tmp /var /etc /dev/shm /home /root /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null"
    run with_remains --share "$TEST_DIR/pattern:/opt/value:ro" -- sh -c "$looking; echo done"
    [ "${lines[-1]}" = done ]
    [ "${#lines[@]}" -eq 1 ]
    echo go >&8
    exec 8>&-
    wait "$RUNNER"
    run with_remains --share "$TEST_DIR/pattern:/opt/value:ro" -- sh -c "$looking; ls /run/secrets/TOKEN ~/copied /tmp/copied"
    [ "$(grep -c 'No such file' <<<"$output")" -eq 3 ]
    [ "${#lines[@]}" -eq 3 ]
    [ -z "$(holders)" ]
    ! grep -qaF -f "$TEST_DIR/value" "$TEST_DIR/report" "$TEST_DIR/err" || return 1
    # Both looks find what is there.
    cp "$TEST_DIR/value" "$TMPDIR/found"
    holders | grep -q found
    run with_remains --share "$TEST_DIR/pattern:/opt/value:ro" -- sh -c "cp /opt/value/value /tmp/found; $looking"
    [[ "$output" == *"/tmp/found"* ]]
    nothing_left
}
