#!/usr/bin/env bats
# A job in a fresh machine: what goes in, what comes out, how it ends.

load common

@test "a command killed by a signal gives 128 + its number" {
    run job -- sh -c 'kill -TERM $$'
    [ "$status" -eq 143 ]
}

@test "a command that is not there gives 127, one that cannot run 126" {
    run job -- no-such-command
    [ "$status" -eq 127 ]
    [[ "$output" == *no-such-command* ]]
    run job -- /etc/marker
    [ "$status" -eq 126 ]
}

@test "stdout and stderr stay apart, and the exit status is the command's" {
    local code=0
    job -- sh -c 'echo out; echo err >&2; exit 42' >"$TEST_DIR/out" 2>"$TEST_DIR/err" || code=$?
    [ "$code" -eq 42 ]
    [ "$(cat "$TEST_DIR/out")" = out ]
    grep -qx err "$TEST_DIR/err"
    ! grep -q out "$TEST_DIR/err"
}

@test "10 MiB through stdin to stdout, unchanged" {
    head -c 10485760 /dev/urandom >"$TEST_DIR/in"
    job -i -- cat <"$TEST_DIR/in" >"$TEST_DIR/out"
    cmp "$TEST_DIR/in" "$TEST_DIR/out"
}

@test "environment, working directory, user and memory" {
    machine_only "there is one user, and the host's memory is seen"
    run job --env GREETING='hello  world' --workdir /home/builder --user builder --memory 384MiB -- \
        sh -c 'echo "$GREETING"; pwd; id -u; id -g; echo "$HOME"; touch file && stat -c %U file
               sed -n "s/MemTotal: *\([0-9]*\) kB/\1/p" /proc/meminfo'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "hello  world" ]
    [ "${lines[1]}" = /home/builder ]
    [ "${lines[2]}" = 1000 ]
    [ "${lines[3]}" = 1000 ]
    [ "${lines[4]}" = /home/builder ]
    [ "${lines[5]}" = builder ]
    # The kernel keeps some of it: 384 MiB are 393216 KiB.
    [ "${lines[6]}" -gt 300000 ]
    [ "${lines[6]}" -lt 393217 ]
}

@test "arguments arrive as they were given, and without -i the input is at its end" {
    run job -- sh -c 'cat; for a; do echo "[$a]"; done' sh 'a b' '' '--flag' 'ü*"'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = '[a b]' ]
    [ "${lines[1]}" = '[]' ]
    [ "${lines[2]}" = '[--flag]' ]
    [ "${lines[3]}" = '[ü*"]' ]
}

@test "a terminal: isatty, its size, and what is typed comes back" {
    run script -qec "stty rows 33 cols 77; $DAYFLY run --engine $ENGINE -it tests -- sh -c 'tty; stty size'" /dev/null
    [ "$status" -eq 0 ]
    [[ "$output" == */dev/* ]]
    [[ "$output" == *"33 77"* ]]
}

@test "a file written in one run is not there in the next" {
    machine_only "the job is not root"
    run job -- sh -c 'echo secret >/etc/marker; echo secret >/root/new; sync; cat /etc/marker /root/new'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = secret ]
    run job -- sh -c 'cat /etc/marker; ls /root/new'
    [ "$status" -ne 0 ]
    [ "${lines[0]}" = "from the image" ]
}

@test "two runs at once do not see each other" {
    job -- sh -c 'echo one >/tmp/who; sleep 1; cat /tmp/who' >"$TEST_DIR/one" &
    local first=$!
    job -- sh -c 'echo two >/tmp/who; sleep 1; cat /tmp/who' >"$TEST_DIR/two"
    wait "$first"
    [ "$(cat "$TEST_DIR/one")" = one ]
    [ "$(cat "$TEST_DIR/two")" = two ]
    nothing_left
}

@test "the report says what happened" {
    run job --report "$TEST_DIR/report.json" -- sh -c 'exit 7'
    [ "$status" -eq 7 ]
    python3 - "$TEST_DIR/report.json" "$ENGINE" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
assert report["engine"] == sys.argv[2], report["engine"]
assert report["why"]
assert report["exit"] == {"code": 7, "signal": None, "timed_out": False}, report["exit"]
timings = report["timings_ms"]
for key in ("create", "boot", "ready", "command", "destroy", "total"):
    assert timings[key] > 0, key
assert timings["create"] <= timings["boot"] <= timings["ready"] <= timings["total"], timings
assert report["start_state"]["digest"].startswith("sha256:")
assert report["resources"]["guest_memory_peak_bytes"] > 0
if report["engine"] == "user":
    assert "jail" not in report
else:
    assert report["jail"]["whole"] == (report["jail"]["lacks"] == ""), report["jail"]
PY
}

@test "doc/report.md has every key of the report" {
    mkdir "$TEST_DIR/share"
    run job --report "$TEST_DIR/report.json" --share "$TEST_DIR/share:/mnt" --cache cache:/cache \
        --allow example.org:443 --artifact "/etc/passwd:$TEST_DIR/out/" -- nslookup nowhere.example
    echo "$output"
    [ "$(jq -c '[(.caches, .artifacts, .shares, .network.names) | length]' "$TEST_DIR/report.json")" = '[1,1,1,1]' ]
    tests/check-report doc/report.md "$TEST_DIR/report.json"
}

@test "the audit finds nothing, and names what a job leaves" {
    run job --audit --report "$TEST_DIR/report" -- true
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$(jq -c .audit "$TEST_DIR/report")" = '{"clean":true,"left":[]}' ]
    mkdir "$TEST_DIR/tmp"
    export TMPDIR=$TEST_DIR/tmp
    run job --audit --share "$TMPDIR:/mnt" -- touch /mnt/dayfly-left
    echo "$output"
    [ "$status" -eq 125 ]
    [[ "$output" == *"file $TMPDIR/dayfly-left"* ]]
}
