#!/usr/bin/env bats
# Artifacts: what comes out of a machine, and what does not.

load common

@test "files, patterns and directories come out, with size and digest in the report" {
    cd "$TEST_DIR"
    run job --workdir /tmp --artifact out.bin --artifact '/tmp/logs/*.log:logs' --artifact /tmp/tree:copy \
        --report report.json -- sh -c '
        head -c 300000 /dev/urandom >out.bin; sha256sum <out.bin
        mkdir -p logs tree/a/b; echo one >logs/1.log; echo two >logs/2.log; echo no >logs/3.txt
        echo deep >tree/a/b/c; ln -s a/b/c tree/link; chmod 4755 tree/a/b/c'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "$(sha256sum <out.bin)" ]
    [ "$(cat logs/1.log logs/2.log)" = $'one\ntwo' ]
    [ ! -e logs/3.txt ]
    [ "$(cat copy/link)" = deep ]
    [ "$(stat -c %a copy/a/b/c)" = 755 ]
    [ "$(jq -r '.artifacts[] | select(.host == "out.bin") | "\(.bytes) \(.sha256)"' report.json)" = \
        "300000 $(sha256sum <out.bin | cut -d' ' -f1)" ]
    [ "$(jq '.artifacts | length' report.json)" -eq 5 ]
    # Nothing else has come to stand here.
    [ "$(find . -name '.dayfly*' | wc -l)" -eq 0 ]
}

@test "they come out of a job that failed, and of one that was ended" {
    cd "$TEST_DIR"
    run job --artifact /tmp/log -- sh -c 'echo it broke >/tmp/log; exit 3'
    [ "$status" -eq 3 ]
    [ "$(cat log)" = "it broke" ]
    run job --timeout 2s --artifact /tmp/log -- sh -c 'echo too slow >/tmp/log; (while :; do echo on >>/tmp/log.d; done) & sleep 1000'
    [ "$status" -eq 124 ]
    [ "$(cat log)" = "too slow" ]
}

@test "a missing one is said, and is a failure only when it is required" {
    user_or_long
    cd "$TEST_DIR"
    run job --artifact /none --report report.json -- true
    [ "$status" -eq 0 ]
    [[ "$output" == *"nothing matches artifact /none"* ]]
    [ "$(jq -c .artifacts report.json)" = '[{"guest":"/none","missing":true}]' ]
    run job --artifact /none --artifact-required -- true
    [ "$status" -eq 125 ]
    run job --artifact /none --artifact-required -- sh -c 'exit 9'
    [ "$status" -eq 9 ]
}

@test "a guest fills no disk, and leaves no half of a file" {
    cd "$TEST_DIR"
    run job --artifact /tmp/big --artifact-limit 1MiB -- sh -c 'head -c 2000000 /dev/zero >/tmp/big'
    [ "$status" -eq 125 ]
    [[ "$output" == *1MiB* ]]
    [ "$(ls -A | grep -v host.before)" = "" ]
    # What has no size on its disk has one here.
    run job --artifact /tmp/sparse --artifact-limit 1MiB -- truncate -s 1099511627776 /tmp/sparse
    [ "$status" -eq 125 ]
    [ ! -e sparse ]
}

@test "links, devices and pipes lead nowhere" {
    cd "$TEST_DIR"
    run job --workdir /tmp --artifact out -- sh -c '
        mkdir out; ln -s /etc/passwd out/abs; ln -s ../../.. out/up; mkfifo out/pipe
        if [ "$(id -u)" = 0 ]; then mknod out/dev c 1 5; fi
        echo fine >out/fine'
    [ "$status" -eq 0 ]
    [ "$(ls -A out)" = fine ]
    [[ "$output" == *"out/abs was left out"* ]]
    [[ "$output" == *"out/pipe was left out"* ]]
    [ "$ENGINE" = user ] || [[ "$output" == *"out/dev was left out"* ]]
}

@test "a killed runner's half is removed by the next one" {
    cd "$TEST_DIR"
    mkfifo in
    "$DAYFLY" run -i --engine "$ENGINE" --cpus 1 --memory 256MiB --artifact /tmp/endless tests -- \
        sh -c 'truncate -s 1099511627776 /tmp/endless; echo ready; read -r _' <in >ready &
    local pid=$!
    exec 7>in
    timeout "$LIMIT" sh -c 'until grep -q ready ready; do :; done'
    echo go on >&7
    timeout "$LIMIT" sh -c 'until [ -n "$(find . -path "./.dayfly-artifact-*/new" -size +0)" ]; do :; done'
    kill -KILL "$pid"
    wait "$pid" || true
    exec 7>&-
    [ ! -e endless ]
    run job --artifact /etc/marker -- true
    [ "$status" -eq 0 ]
    [ "$(cat marker)" = "from the image" ]
    [ "$(find . -name '.dayfly*' | wc -l)" -eq 0 ]
}
