#!/usr/bin/env bats
# Jobs from files, and the state that they start from.

load common

# dayfly run -f with the test's engine and a small machine: file_job FILE [OPTION ...] [-- CMD ...]
file_job() {
    local file=$1
    shift
    timeout -k 10 "$LIMIT" "$DAYFLY" run --engine "$ENGINE" -f "$file" "$@"
}

@test "a job with steps, a share, a cache, a secret and an artifact, twice from the same state" {
    mkdir -p "$TEST_DIR/place/src"
    echo "a source" >"$TEST_DIR/place/src/source"
    cat >"$TEST_DIR/place/job.yaml" <<'YAML'
image: tests
cpus: 1
memory: 256MiB
workdir: /src
shares:
  - {source: src, path: /src, options: cow}
caches:
  - {name: objects, path: /objects, policy: promote}
env: {LEVEL: "3", WHO: file}
secrets:
  - {name: KEY, env: THE_KEY}
steps:
  - name: build
    run: |
      cat source >built
      echo "level $LEVEL for $WHO" >>built
      cp /objects/built before 2>/dev/null || echo nothing >before
      cp built /objects
  - command: [sh, -c, "cat built before; cat /run/secrets/KEY"]
artifacts:
  - {path: built, to: out/}
report: report.json
YAML
    "$DAYFLY" validate "$TEST_DIR/place/job.yaml"
    export THE_KEY=hunter22hunter22
    run file_job "$TEST_DIR/place/job.yaml" --audit --env WHO=me
    [ "$status" -eq 0 ]
    [[ "$output" == *"[1/2] build"* ]]
    [[ "$output" == *"[2/2] step 2"* ]]
    [[ "$output" == *"a source"* ]]
    [[ "$output" == *'***'* ]]
    [ "$(cat "$TEST_DIR/place/out/built")" = $'a source\nlevel 3 for me' ]
    [ "$(ls "$TEST_DIR/place/src")" = source ]
    [ "$(jq -r '[.steps[] | "\(.name)=\(.code)"] | join(" ")' "$TEST_DIR/place/report.json")" = "build=0 step 2=0" ]
    local digest
    digest=$(jq -r .start_state.digest "$TEST_DIR/place/report.json")
    [ "$(jq -c '[.audit.clean, .caches[0].outcome]' "$TEST_DIR/place/report.json")" = '[true,"untrusted"]' ]
    # The same again, and only that: what the first one put into the cache nobody vouched for.
    run file_job "$TEST_DIR/place/job.yaml" --audit --expect-state "$digest"
    [ "$status" -eq 0 ]
    [[ "$output" == *nothing* ]]
    [ "$(jq -r .start_state.digest "$TEST_DIR/place/report.json")" = "$digest" ]
    run file_job "$TEST_DIR/place/job.yaml" --expect-state "$digest" --memory 272MiB
    [ "$status" -eq 125 ]
    [[ "$output" == *"and not $digest as expected"* ]]
    [[ "$output" != *"[1/2]"* ]]
}

@test "the first step that fails is the last, and its status the job's" {
    cat >"$TEST_DIR/job.yaml" <<'YAML'
image: tests
cpus: 1
memory: 256MiB
steps:
  - run: echo one; sleep 1000 & echo $! >/tmp/pid
  - name: check
    run: |
      kill -0 $(cat /tmp/pid)
      false
      echo not here
  - run: echo never
artifacts:
  - {path: /tmp/pid}
YAML
    cd "$TEST_DIR"
    run file_job job.yaml --report report.json
    [ "$status" -eq 1 ]
    [[ "$output" == *"check failed with status 1"* ]]
    [[ "$output" != *never* ]]
    [[ "$output" != *"not here"* ]]
    [ -s pid ]
    [ "$(jq -c '[.steps[].code]' report.json)" = '[0,1]' ]
}

@test "the time limit is of all steps together" {
    user_or_long
    printf 'image: tests\ncpus: 1\nmemory: 256MiB\ntimeout: 3s\nsteps:\n  - run: sleep 1\n  - run: sleep 60\n' \
        >"$TEST_DIR/job.yaml"
    run file_job "$TEST_DIR/job.yaml"
    [ "$status" -eq 124 ]
}

@test "words on the command line are the command" {
    user_or_long
    printf 'image: no-such\ncpus: 1\nmemory: 256MiB\nsteps:\n  - run: exit 9\n' >"$TEST_DIR/job.yaml"
    run file_job "$TEST_DIR/job.yaml" --image tests -- echo instead
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = instead ]
}

@test "a faulty job file says every fault and starts nothing" {
    printf 'image: tests\nstep:\n  - run: x\nsteps:\n  - nam: x\n' >"$TEST_DIR/job.yaml"
    run file_job "$TEST_DIR/job.yaml"
    [ "$status" -eq 125 ]
    [[ "$output" == *"job.yaml:2:1: error: unknown key \"step\""* ]]
    [[ "$output" == *'did you mean `name`?'* ]]
    run "$DAYFLY" validate "$TEST_DIR/job.yaml"
    [ "$status" -eq 125 ]
    [[ "$output" == *"3 errors"* ]]
}

@test "a signal that a step takes well ends the job all the same" {
    user_or_long
    cat >"$TEST_DIR/job.yaml" <<'YAML'
image: tests
cpus: 1
memory: 256MiB
steps:
  - run: |
      trap 'echo told; exit 0' TERM
      echo ready
      sleep 1000 & wait
  - run: echo never
YAML
    mkfifo "$TEST_DIR/out"
    "$DAYFLY" run --engine "$ENGINE" -f "$TEST_DIR/job.yaml" >"$TEST_DIR/out" 2>"$TEST_DIR/err" &
    local pid=$! status=0
    exec 8<"$TEST_DIR/out"
    read -r -t "$LIMIT" line <&8
    [ "$line" = ready ]
    kill -TERM "$pid"
    [ "$(cat <&8)" = told ]
    wait "$pid" || status=$?
    exec 8<&-
    [ "$status" -eq 143 ]
    ! grep -q '2/2' "$TEST_DIR/err" || return 1
}
