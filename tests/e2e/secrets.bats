#!/usr/bin/env bats
# Secrets: where the command finds them, and where nobody does.

load common

# A value that stands nowhere else, and that nothing of this test prints.
fresh_value() {
    echo "s3cret-$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')"
}

# Fails when one of the files holds the value.
lacks() {
    local value=$1 file
    shift
    for file; do
        if LC_ALL=C grep -aqF -e "$value" "$file" 2>/dev/null; then
            echo "the value is in $file, $(readlink "$file")"
            return 1
        fi
    done
}

@test "a secret is a file of the user's, in memory, before the command starts" {
    export TOKEN=$(fresh_value)
    local value=$TOKEN
    local user=(--user builder)
    [ "$ENGINE" != user ] || user=() # its jobs are a user's anyway
    run job "${user[@]}" --secret TOKEN -- sh -c '
        stat -c "%a %U" /run/secrets/TOKEN; id -un; stat -f -c %T /run/secrets; cat /run/secrets/TOKEN | wc -c
        test -z "$TOKEN" && echo no variable; cat /run/secrets/TOKEN | sha256sum'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "400 ${lines[1]}" ]
    [ "${lines[1]}" != root ]
    [ "${lines[2]}" = tmpfs ]
    [ "${lines[3]}" -eq ${#value} ]
    [ "${lines[4]}" = "no variable" ]
    [ "${lines[5]}" = "$(printf %s "$value" | sha256sum)" ]
}

@test "a variable when asked for, from a file" {
    user_or_long
    local value
    value=$(fresh_value)
    echo "$value" >"$TEST_DIR/file"
    run job --secret-env "KEY=file:$TEST_DIR/file" -- sh -c '
        printf %s "$KEY" | sha256sum; ls -A /run/secrets 2>/dev/null || true'
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 1 ]
    [ "${lines[0]}" = "$(printf %s "$value" | sha256sum)" ]
}

@test "the output has stars in its place, however it is printed" {
    export TOKEN=$(fresh_value)
    local value=$TOKEN
    run job --secret TOKEN -- sh -c '
        v=$(cat /run/secrets/TOKEN)
        echo "whole $v."; echo "err $v." >&2; echo "again $v$v"
        i=0; while [ $i -lt ${#v} ]; do printf %s "${v:$i:1}"; i=$((i + 1)); done; echo
        printf "user:%s" "$v" | base64; echo "${v%????}"'
    [ "$status" -eq 0 ]
    [[ "$output" != *"$value"* ]]
    [ "${lines[0]}" = "whole ***." ]
    [[ "$output" == *"err ***."* ]]
    [[ "$output" == *"again ***"* ]]
    [ "$(grep -cx '\*\*\*' <<<"$output")" -eq 1 ]
    [[ "$output" != *"$(printf 'user:%s' "$value" | base64 | cut -c 9-30)"* ]]
    # What only begins like it is shown.
    [ "${lines[-1]}" = "${value%????}" ]
}

@test "a terminal is masked as well" {
    export TOKEN=$(fresh_value)
    local value=$TOKEN
    run script -qec "$DAYFLY run --engine $ENGINE --cpus 1 --memory 256MiB -t --secret TOKEN tests -- \
        sh -c 'cat /run/secrets/TOKEN; echo; tty'" /dev/null
    [ "$status" -eq 0 ]
    [[ "$output" != *"$value"* ]]
    [[ "$output" == *'***'* ]]
}

# Everything on this host that belongs to the running job and could hold the value.
@test "it is in no file, environment, command line, log or report" {
    export TOKEN=$(fresh_value)
    local value=$TOKEN pid fd file one written
    mkfifo "$TEST_DIR/in" "$TEST_DIR/out"
    TMPDIR=$TEST_DIR "$DAYFLY" run -v -i --engine "$ENGINE" --cpus 1 --memory 256MiB --disk 64MiB \
        --secret TOKEN --report "$TEST_DIR/report.json" tests -- sh -c '
        cat /run/secrets/TOKEN /run/secrets/TOKEN >/copied; sync; echo ready; read -r _' \
        <"$TEST_DIR/in" >"$TEST_DIR/out" 2>"$TEST_DIR/log" &
    pid=$!
    unset TOKEN
    exec 7>"$TEST_DIR/in" 8<"$TEST_DIR/out"
    read -r -t "$LIMIT" line <&8
    [ "$line" = ready ]
    for one in $(marked); do
        lacks "$value" "/proc/$one/environ" "/proc/$one/cmdline"
        for fd in /proc/"$one"/fd/*; do
            # Files, also those without a name: what the job wrote is in its encrypted layer. The guest's
            # memory has it, of course.
            file=$(readlink "$fd") || continue
            if [ -f "$fd" ] && [[ "$file" != /memfd:* ]]; then lacks "$value" "$fd"; fi
        done
    done
    echo go on >&7
    wait "$pid"
    exec 7>&- 8<&-
    [ -s "$TEST_DIR/report.json" ]
    mapfile -t written < <(find "$DAYFLY_HOME" -type f -newer "$TEST_DIR/in")
    lacks "$value" "$TEST_DIR/report.json" "$TEST_DIR/log" "${written[@]}"
    # The search finds what is there.
    echo "$value" >"$TEST_DIR/log"
    ! lacks "$value" "$TEST_DIR/log" || return 1
    nothing_left
}

@test "the next job does not have it" {
    long
    export TOKEN=$(fresh_value)
    job --secret TOKEN --secret-env OTHER=env:TOKEN -- sh -c 'cp /run/secrets/TOKEN /kept; echo "$OTHER" >/etc/marker'
    unset TOKEN
    run job -- sh -c 'ls /run/secrets /kept; env | grep OTHER; cat /etc/marker'
    [ "${lines[-1]}" = "from the image" ]
    [[ "$output" != *OTHER* ]]
    [[ "$output" == *"/run/secrets: No such file"* ]]
    [[ "$output" == *"/kept: No such file"* ]]
}

@test "it changes nothing of the start state" {
    user_or_long
    job --report "$TEST_DIR/without.json" -- true
    TOKEN=$(fresh_value) job --secret TOKEN --report "$TEST_DIR/with.json" -- true
    [ "$(jq -r .start_state.digest "$TEST_DIR/with.json")" = "$(jq -r .start_state.digest "$TEST_DIR/without.json")" ]
}

@test "a value as the source, a short one and a missing one are refused, and not quoted" {
    run job --secret TOKEN=hunter22 -- true
    [ "$status" -eq 125 ]
    [[ "$output" != *hunter22* ]]
    TOKEN=abc run job --secret TOKEN -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *"4 bytes"* ]]
    run job --secret DAYFLY_NO_SUCH_VARIABLE -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *DAYFLY_NO_SUCH_VARIABLE* ]]
}
