#!/usr/bin/env bats
# Runners that are killed at any moment, as the kernel does when memory is short: what they leave the next run or
# `dayfly prune` takes away, and a look that knows nothing of Dayfly's code finds the host as it was. With
# DAYFLY_TEST_LONG=1 a hundred times. DAYFLY_TEST_SEED repeats the moments.

load common

eval "$(declare -f setup | sed '1s/setup/common_setup/')"

setup() {
    common_setup
    mkdir "$TEST_DIR"/{tmp,share,out}
    echo value-of-the-secret >"$TEST_DIR/value"
    export TMPDIR=$TEST_DIR/tmp
    # No other test's, so that all that has one of these ids is what is looked for.
    FIRST=$((1810000000 + $$ % 10000 * 1000))
    LAST=$((FIRST + 999))
    export DAYFLY_USER_RANGE=$FIRST-$LAST
    TIMES=20
    if [ "$ENGINE" != user ]; then TIMES=4; fi
    if [ -n "${DAYFLY_TEST_LONG:-}" ]; then TIMES=100; fi
    SEED=${DAYFLY_TEST_SEED:-$((RANDOM * 32768 + RANDOM))}
    RANDOM=$SEED
    echo "DAYFLY_TEST_SEED=$SEED"
}

# A job with something of everything: dayfly's words.
words() { # OPTION ...
    WORDS=(run --engine "$ENGINE" --cpus 1 --memory 256MiB --disk 64MiB --secret "S=file:$TEST_DIR/value"
        --share "$TEST_DIR/share:/share:cow" --artifact "/tmp/made:$TEST_DIR/out/" --report "$TEST_DIR/report" "$@"
        tests -- sh -c 'echo x >/share/x; head -c 100000 /dev/zero >/tmp/made; sleep 0.1')
}

# What a host has of ours, whoever made it: by the kernel's own tables, for the ids of this test.
look_around() {
    set +e # most of them find nothing
    ps -eo uid,pid,args | awk -v a="$FIRST" -v b="$LAST" '$1 >= a && $1 <= b'
    marked
    cut -d' ' -f5 /proc/self/mountinfo | grep -F -e dayfly -e "$TEST_DIR"
    find /sys/fs/cgroup -type d -path "*/dayfly/job-${FIRST%???}*"
    find /tmp /var/tmp /dev/shm /dev/mqueue /run/lock -maxdepth 1 -uid +$((FIRST - 1)) -uid -$((LAST + 1))
    find "$TMPDIR" "$TEST_DIR/share" "$TEST_DIR/out" -mindepth 1 ! -name made
    find "$DAYFLY_HOME" -path "$DAYFLY_HOME/templates" -prune -o -print
    awk -v a="$FIRST" -v b="$LAST" '$1 + 0 >= a && $1 + 0 <= b' /proc/key-users
    awk -v a="$FIRST" -v b="$LAST" '{ for (i = 5; i < 11; i++) if ($i >= a && $i <= b) print FILENAME, $2 }' /proc/sysvipc/*
    losetup -a | grep -F -e "$DAYFLY_HOME" -e "$TEST_DIR"
    ls /sys/class/net /run/dayfly
    echo "looked at everything"
}

# Bounded: dying takes a moment, and others come and go on the same host.
host_is_as_before() {
    local try
    for try in {1..25}; do
        (look_around) 2>/dev/null | sort >"$TEST_DIR/after"
        diff "$TEST_DIR/before" "$TEST_DIR/after" >"$TEST_DIR/difference" && return 0
        sleep 0.2
    done
    cat "$TEST_DIR/difference"
    return 1
}

# Start it, and kill it somewhere in the time that a whole run took, and a little more.
kill_one() { # OPTION ...
    local runner moment=$((RANDOM * SPAN_MS / 32768))
    words "$@"
    "$DAYFLY" "${WORDS[@]}" 2>>"$TEST_DIR/err" 3>&- &
    runner=$!
    sleep "$((moment / 1000)).$(printf %03d $((moment % 1000)))"
    kill -KILL "$runner" 2>/dev/null || true
    wait "$runner" 2>/dev/null && FINISHED=$((FINISHED + 1))
    return 0
}

run_one() { # OPTION ...
    words "$@"
    timeout -k 10 "$LIMIT" "$DAYFLY" "${WORDS[@]}"
}

measure() {
    local begin=${EPOCHREALTIME/./}
    run_one
    SPAN_MS=$(((${EPOCHREALTIME/./} - begin) / 1000 * 11 / 10))
    FINISHED=0
    mkdir -p /run/dayfly
    (look_around) 2>/dev/null | sort >"$TEST_DIR/before"
    grep -q "looked at everything" "$TEST_DIR/before"
}

@test "runners killed at random moments: one run later nothing is left" {
    measure
    local i
    for ((i = 0; i < TIMES; i++)); do kill_one; done
    echo "in $SPAN_MS ms each, $FINISHED of $TIMES had finished"
    [ "$FINISHED" -le $((TIMES / 2)) ]
    run_one
    host_is_as_before
    # The audit's own look agrees.
    run_one --audit
    [ "$(jq -c .audit "$TEST_DIR/report")" = '{"clean":true,"left":[]}' ]
    run "$DAYFLY" prune --dry-run "$TEST_DIR/out"
    echo "$output"
    [ "$output" = "nothing was left" ]
    nothing_left
}

@test "four runners at once, all killed: dayfly prune finds what they left, a living one keeps its own" {
    user_or_long
    measure
    mkfifo "$TEST_DIR/talk" "$TEST_DIR/listen"
    job -i --net none -- sh -c 'echo up; read -r go; echo "still $go"' <"$TEST_DIR/talk" >"$TEST_DIR/listen" 3>&- &
    local living=$! i j line
    exec 8>"$TEST_DIR/talk" 7<"$TEST_DIR/listen"
    read -r -t "$LIMIT" line <&7
    [ "$line" = up ]
    for ((i = 0; i < TIMES / 4; i++)); do
        for j in 1 2 3 4; do kill_one & done
        # The living one is a child of this shell's as well.
        for j in $(jobs -p); do [ "$j" = "$living" ] || wait "$j" || true; done
    done
    for i in $(marked); do
        # What is dying goes by itself.
        [ "$i" = "$living" ] || timeout 2 tail --pid="$i" -f /dev/null || true
    done
    "$DAYFLY" prune "$TEST_DIR/out"
    echo here >&8
    read -r -t "$LIMIT" line <&7
    [ "$line" = "still here" ]
    exec 8>&-
    wait "$living"
    host_is_as_before
    nothing_left
}

@test "prune: what killed processes left, by name, and nothing that is used" {
    local home=$TEST_DIR/home
    export DAYFLY_HOME=$home
    mkdir -p "$home/tmp/pull-0123456789abcdef/blobs/sha256" "$home/images/blobs/sha256" "$TMPDIR/dayfly-door-killed" \
        "$TEST_DIR/out/.dayfly-artifact-0123456789ab" "$TMPDIR/dayfly-door-in-use" "$TMPDIR/somebody"
    echo half >"$home/tmp/tmp-half"
    echo used >"$home/tmp/tmp-used"
    echo orphan >"$home/images/blobs/sha256/$(printf '%064d' 1)"
    echo half >"$TEST_DIR/out/.dayfly-artifact-0123456789ab/new"
    exec 7<"$TMPDIR/dayfly-door-in-use" 8<"$home/tmp/tmp-used"
    flock -x 7 && flock -x 8
    cat >"$TEST_DIR/expected" <<EXPECTED
artifact $TEST_DIR/out/.dayfly-artifact-0123456789ab
download $home/tmp/pull-0123456789abcdef
file $home/images/blobs/sha256/$(printf '%064d' 1)
file $home/tmp/tmp-half
socket $TMPDIR/dayfly-door-killed
EXPECTED
    ours() { grep -F "$TEST_DIR" | sort; }
    "$DAYFLY" prune --dry-run "$TEST_DIR/out" | ours | diff "$TEST_DIR/expected" -
    [ -e "$home/tmp/tmp-half" ]
    [ -e "$TMPDIR/dayfly-door-killed" ]
    "$DAYFLY" prune --dry-run --json "$TEST_DIR/out" | jq -r '.[] | .kind + " " + .name' | ours | diff "$TEST_DIR/expected" -
    "$DAYFLY" prune "$TEST_DIR/out" | ours | diff "$TEST_DIR/expected" -
    [ -z "$("$DAYFLY" prune "$TEST_DIR/out" | ours)" ]
    [ "$(ls "$TMPDIR")" = "dayfly-door-in-use
somebody" ]
    [ "$(ls "$home/tmp")" = tmp-used ]
    [ -z "$(ls -A "$TEST_DIR/out")" ]
}
