#!/usr/bin/env bats
# Caches: what a job leaves for the next one, who may, and what somebody makes of it who should not. What is the
# same in every engine, engine user shows alone where it takes many runs.

bats_require_minimum_version 1.5.0
load common
load share

eval "$(declare -f setup | sed '1s/setup/common_setup/')"

# A data directory of the test's own, with the image and kernel of the others.
setup() {
    common_setup
    cp -al "$DAYFLY_HOME" "$TEST_DIR/home" 2>/dev/null ||
        { rm -rf "$TEST_DIR/home" && cp -a "$DAYFLY_HOME" "$TEST_DIR/home"; }
    rm -rf "$TEST_DIR/home/caches"
    export DAYFLY_HOME=$TEST_DIR/home
    CACHES=$DAYFLY_HOME/caches
    REPORT=$TEST_DIR/report.json
}

# A job with a report, and without a network: cached [OPTION ...] -- SCRIPT
cached() { job --net none --report "$REPORT" "${@:1:$#-2}" -- sh -c "${*: -1}"; }

# What became of the job's only cache, in one line: "promoted 1>2".
outcome() { jq -r '.caches[0] | "\(.outcome) \(.generation)" + (if .made then ">\(.made.generation)" else "" end)' "$REPORT"; }

# The files of the current generation, and the number of it.
tree() { "$DAYFLY" cache inspect "$1" --json | jq -r '.generations[0].path'; }
generation() { "$DAYFLY" cache ls --json | jq -r ".[] | select(.name == \"$1\") | .generation"; }

# Nothing of a job that has ended is left where its work was.
no_work() {
    "$DAYFLY" cache ls >/dev/null
    [ -z "$(ls "$CACHES/.work")" ]
}

@test "what a trusted job that succeeds writes to a cache, the next one finds, and nobody else changes it" {
    cached --trusted --cache deps:/c:promote -- 'ls -A /c; mkdir -p /c/d/e; echo one >/c/d/e/f; echo 1 >/c/g'
    [ "$(outcome)" = "promoted 0>1" ]
    id=$(jq -r '.caches[0].made.id' "$REPORT")
    cached --trusted --cache deps:/c:promote -- 'cat /c/d/e/f; rm /c/g; echo two >>/c/d/e/f; echo 3 >/c/h'
    [ "$(outcome)" = "promoted 1>2" ]
    tests/check-report doc/report.md "$REPORT"
    [ "$(jq -r '.caches[0].id' "$REPORT")" = "$id" ]
    [ "$(jq -r '.start_state.caches[0].generation' "$REPORT")" = "$id" ]
    [ "$(cat "$(tree deps)/d/e/f")" = $'one\ntwo' ]
    look "$CACHES/deps" >"$TEST_DIR/before"

    # The old one is what it was.
    [ "$(cat "$CACHES/deps/1-$id/tree/d/e/f")" = one ]
    [ -f "$CACHES/deps/1-$id/tree/g" ]

    # Private, and promote without the mark: written to, and dropped.
    run cached --cache deps:/c -- 'ls /c; rm -r /c/d; echo x >/c/h; echo poison >/c/poison; cat /c/h'
    [ "$status" -eq 0 ]
    [ "${lines[*]}" = "d h x" ]
    [ "$(outcome)" = "dropped 2" ]
    run cached --cache deps:/c:promote -- 'echo poison >/c/poison; rm /c/h; chmod 777 /c /c/d'
    [ "$status" -eq 0 ]
    [[ "$output" == *"cache deps was not promoted: the run is not marked --trusted"* ]]
    [ "$(outcome)" = "untrusted 2" ]
    run cached --trusted --cache deps:/c:ro -- 'ls /c; echo x >/c/h; rm -r /c/d; touch /c/new; mount -o remount,rw /c; echo x >/c/h; ls /c; cat /c/h'
    [ "$status" -eq 0 ]
    [ "$(grep -c . <<<"$(grep -x '[dh3]' <<<"$output")")" -eq 5 ]
    [ "$(outcome)" = "read 2" ]
    [ "$(look "$CACHES/deps")" = "$(cat "$TEST_DIR/before")" ]

    no_work
    [ "$ENGINE" = user ] || return 0 # the rest is the same in every engine, and takes its time

    # Nothing changed: no generation either, and the same state to start from.
    state=$(jq -r .start_state.digest "$REPORT")
    cached --trusted --cache deps:/c:promote -- 'touch /c/d/tmp; rm /c/d/tmp; cat /c/h'
    [ "$(outcome)" = "unchanged 2" ]
    [ "$(jq -r .start_state.digest "$REPORT")" != "$state" ]
    state=$(jq -r .start_state.digest "$REPORT")
    cached --trusted --cache deps:/c:promote --expect-state "$state" -- 'true'
    [ "$(jq -r .start_state.digest "$REPORT")" = "$state" ]
    no_work
}

@test "a job that fails, is ended or is interrupted leaves the cache as it was" {
    user_or_long
    cached --trusted --cache c:/c:promote -- 'echo good >/c/file'
    run cached --trusted --cache c:/c:promote -- 'echo bad >/c/file; exit 3'
    [ "$status" -eq 3 ]
    [ "$(outcome)" = "unsuccessful 1" ]
    run cached --trusted --timeout 1s --cache c:/c:promote -- 'trap "exit 0" TERM; echo bad >/c/file; sleep 100 & wait'
    [ "$status" -eq 124 ]
    [ "$(outcome)" = "unsuccessful 1" ]

    # It takes the signal well, and says that all is fine.
    start_talking_job --net none --report "$REPORT" --trusted --cache c:/c:promote -- \
        'trap "exit 0" TERM; echo bad >/c/file; echo waiting; while :; do sleep 1; done'
    expect waiting
    kill -TERM "$RUNNER"
    wait "$RUNNER"
    [ "$(outcome)" = "unsuccessful 1" ]

    # A step that fails, behind one that went well.
    cat >"$TEST_DIR/job.yaml" <<'YAML'
image: tests
net: none
cpus: 1
memory: 256MiB
caches: [{name: c, path: /c, policy: promote}]
steps: [{run: echo bad >/c/file}, {run: "false"}]
YAML
    run "$DAYFLY" run --engine "$ENGINE" --trusted -f "$TEST_DIR/job.yaml" --report "$REPORT"
    [ "$status" -eq 1 ]
    [ "$(outcome)" = "unsuccessful 1" ]
    [ "$(cat "$(tree c)/file")" = good ]
    no_work
}

@test "of two jobs at once each has its own view, and the second to end makes no generation" {
    user_or_long
    cached --trusted --cache c:/c:promote -- 'echo base >/c/base'
    start_talking_job --net none --report "$TEST_DIR/slow.json" --trusted --cache c:/c:promote -- \
        'echo slow >/c/slow; echo ready; read line; ls /c; cat /c/base'
    expect ready
    cached --trusted --cache c:/c:promote -- 'ls /c; echo quick >/c/quick; echo changed >/c/base'
    [ "$(outcome)" = "promoted 1>2" ]
    # What the slow one works on stays, however many come after it.
    local there="base quick"
    if [ "$ENGINE" = user ]; then
        there="base fourth quick third"
        cached --trusted --cache c:/c:promote -- 'echo 3 >/c/third'
        cached --trusted --cache c:/c:promote -- 'echo 4 >/c/fourth'
        [ "$(generation c)" = 4 ]
        [ "$(ls "$CACHES/c" | wc -l)" -eq 3 ]
    fi
    run "$DAYFLY" cache rm c
    [ "$status" -eq 125 ]
    [[ "$output" == *"a job uses the cache c"* ]]
    "$DAYFLY" cache prune
    [ "$(ls "$CACHES/c" | wc -l)" -eq 2 ]
    echo >&6
    expect base
    expect slow
    expect base
    wait "$RUNNER"
    REPORT=$TEST_DIR/slow.json
    [ "$(outcome)" = "superseded 1" ]
    grep -q "another job's generation became current meanwhile" "$TEST_DIR/err"
    [ "$(ls "$(tree c)" | xargs)" = "$there" ]
    "$DAYFLY" cache prune
    [ "$(ls "$CACHES/c" | wc -l)" -eq 1 ]
    no_work
}

@test "what is hostile in a cache does nothing to the host" {
    user_or_long
    echo outside >"$TEST_DIR/outside"
    run cached --trusted --cache c:/c:promote -- '
        cd /c || exit 1
        echo "#!/bin/sh" >setuid; chmod 6755 setuid; mkdir sgid; chmod 2777 sgid
        mkfifo pipe; mknod null c 1 3; mknod white c 0 0; nc -lU socket & sleep 1; kill $!
        ln -s '"$TEST_DIR"'/outside out; ln -s / root; ln -s ../../../../../../etc etc; ln -s self self
        mkdir .work .lock caches next upper work ...; touch .wh.out .wh..wh..opq "$(printf "a\nb\033[2J\377")"
        echo 1 >one; ln one two; mkdir none; echo n >none/n; chmod 0 none/n none; mkdir ro; echo r >ro/r; chmod 555 ro
        d=.; for i in $(seq 100); do d=$d/d; done; mkdir -p $d; echo deep >$d/leaf; exit 0'
    [ "$status" -eq 0 ]
    [ "$(outcome)" = "promoted 0>1" ]
    [ "$(jq '.caches[0].left_out >= 1' "$REPORT")" = true ]
    dir=$(tree c)
    # Nothing but files, directories and links, none with a set-id bit, all the data directory's owner's.
    [ -z "$(find "$dir" ! -type f ! -type d ! -type l)" ]
    [ -z "$(find "$dir" -perm /6000)" ]
    [ -z "$(find "$dir" ! -user "$(stat -c %u "$DAYFLY_HOME")")" ]
    if command -v getfattr >/dev/null; then [ -z "$(getfattr -R -h -m - -d "$dir" 2>/dev/null | grep -v selinux)" ]; fi
    [ "$(readlink "$dir/out")" = "$TEST_DIR/outside" ]
    [ "$(cat "$TEST_DIR/outside")" = outside ]
    # It comes back as it was, and can be changed, in this way or that.
    cached --trusted --cache c:/c:promote -- '
        cd /c || exit 1
        [ "$(cat one two)" = "1
1" ] && [ "$(readlink out)" != "" ] && [ -d ... ] && [ -f .wh.out ] && [ -d .work ] && [ "$(cat ro/r)" = r ] || exit 1
        rm -rf root out etc self sgid; mkdir root; echo mine >root/mine; echo 2 >>two; rm .wh.out'
    [ "$(outcome)" = "promoted 1>2" ]
    [ "$(cat "$dir/one" "$dir/two")" = $'1\n1' ]
    [ -L "$dir/root" ]
    dir=$(tree c)
    [ "$(cat "$dir/root/mine")" = mine ]
    [ ! -e "$dir/.wh.out" ] && [ -e "$dir/.wh..wh..opq" ]
    "$DAYFLY" cache rm c
    [ ! -e "$CACHES/c" ]
    no_work
}

@test "what cannot be kept is said, and changes neither the cache nor the job's status" {
    user_or_long
    cached --trusted --cache c:/c:promote -- 'echo good >/c/file'
    run cached --trusted --cache c:/c:promote -- 'd=/c; for i in $(seq 150); do d=$d/d; done; mkdir -p $d'
    [ "$status" -eq 0 ]
    [[ "$output" == *"cache c was not promoted: cache c: directories are nested more than 128 deep"* ]]
    [ "$(outcome)" = "failed 1" ]
    [ "$(ls "$(tree c)")" = file ]

    is_root || skip "mounts a disk that is full"
    export -f job cached
    export CACHES DAYFLY ENGINE LIMIT REPORT
    # shellcheck disable=SC2016
    run unshare -m bash -c '
        mount -t tmpfs -o nr_inodes=120 none "$CACHES" || exit 77
        cached --trusted --cache c:/c:promote -- "for i in \$(seq 50); do echo \$i >/c/\$i; done" || exit 1
        cached --trusted --cache c:/c:promote -- "for i in \$(seq 51 75); do echo \$i >/c/\$i; done" || exit 2
        cat "$REPORT"
        ls "$CACHES/.work" "$CACHES"/c/*/tree | wc -l
        "$DAYFLY" cache ls --json'
    [ "$status" -ne 77 ] || skip "no mounts here"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"was not promoted"*"No space left on device"* ]]
    [[ "$output" == *'"outcome": "failed"'* ]]
    [[ "$output" == *'"generation": 1'* ]]
    no_work
}

@test "a job file names caches, and cannot make itself trusted" {
    user_or_long
    cat >"$TEST_DIR/job.yaml" <<'YAML'
image: tests
net: none
cpus: 1
memory: 256MiB
caches:
  - {name: deps, path: /c, policy: promote}
  - {name: tools, path: /t, policy: ro}
command: [sh, -c, "ls -A /c /t; echo x >/c/x; ls /c"]
YAML
    "$DAYFLY" validate "$TEST_DIR/job.yaml"
    run "$DAYFLY" run --engine "$ENGINE" -f "$TEST_DIR/job.yaml" --report "$REPORT"
    [ "$status" -eq 0 ]
    [[ "$output" == *"not marked --trusted"* ]]
    [ "$(jq -r '.caches | map("\(.name)=\(.outcome)") | join(" ")' "$REPORT")" = "deps=untrusted tools=read" ]
    [ "$("$DAYFLY" cache ls --json | jq length)" = 0 ]
    run env DAYFLY_TRUSTED=1 "$DAYFLY" run --engine "$ENGINE" -f "$TEST_DIR/job.yaml" --trusted --report "$REPORT"
    [ "$status" -eq 0 ]
    [ "$(jq -r '.caches | map("\(.name)=\(.outcome)") | join(" ")' "$REPORT")" = "deps=promoted tools=read" ]
    # The command line's word for one of them comes first.
    run "$DAYFLY" run --engine "$ENGINE" -f "$TEST_DIR/job.yaml" --trusted --cache deps:/c:private --report "$REPORT"
    [ "$(jq -r '.caches | map("\(.name)=\(.outcome)") | join(" ")' "$REPORT")" = "deps=dropped tools=read" ]

    for line in 'trusted: true' 'caches: [{name: d, path: /c, trusted: true}]' 'caches: [{name: d, path: /c, policy: rw}]' \
        'caches: [{name: ../d, path: /c}]' 'caches: [{name: d, path: c}]' 'caches: [{name: d, path: /c}, {name: d, path: /d}]'; do
        printf 'image: tests\ncommand: [id]\n%s\n' "$line" >"$TEST_DIR/bad.yaml"
        run "$DAYFLY" validate "$TEST_DIR/bad.yaml"
        echo "$line: $output"
        [ "$status" -ne 0 ]
        run "$DAYFLY" run --engine "$ENGINE" -f "$TEST_DIR/bad.yaml"
        [ "$status" -eq 125 ]
    done
    [ "$("$DAYFLY" cache ls --json | jq length)" = 1 ]
}

@test "words for caches that are wrong start nothing" {
    for word in deps deps:c :/c .x:/c a/b:/c deps:/c:rw deps:/proc/c deps:/; do
        run cached --cache "$word" -- true
        echo "$word: $output"
        [ "$status" -eq 125 ]
    done
    run cached --cache a:/c --cache a:/d -- true
    [ "$status" -eq 125 ]
    run cached --cache a:/c --share "$TEST_DIR:/c" -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *"two things at /c"* ]]
    run "$DAYFLY" run --engine none --cache a:/c host -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *"no place to show a cache"* ]]
}

@test "a cache within a share's place, and beside a secret, is seen; an audit finds nothing" {
    user_or_long
    make_share
    mkdir "$SHARE/c"
    KEY=hunter22hunter22 run cached --secret KEY --share "$SHARE:/src" --trusted --cache c:/src/c:promote -- \
        'echo cached >/src/c/file; echo shared >/src/file; wc -c /run/secrets/KEY'
    echo "$output"
    [ "$status" -eq 0 ]
    # Others run on this host, and leave what they leave.
    [ "$(jq --arg home "$DAYFLY_HOME" '[.audit.left[] | select(.name | contains($home))]' "$REPORT")" = "[]" ]
    [ "$(cat "$(tree c)/file")" = cached ]
    [ "$(ls "$SHARE" "$SHARE/c" | grep -c file)" -eq 1 ]
}

@test "a runner killed at any moment leaves the old generation or the new, and nothing else" {
    user_or_long
    local rounds=2
    if [ "$ENGINE" = user ]; then rounds=15; fi
    if [ -n "${DAYFLY_TEST_LONG:-}" ]; then rounds=$((rounds * 7)); fi
    RANDOM=1
    cached --trusted --cache c:/c:promote -- 'echo 1 >/c/1; for i in $(seq 50); do echo $i >/c/f$i; done'
    before=1
    for round in $(seq $rounds); do
        "$DAYFLY" run --engine "$ENGINE" --cpus 1 --memory 256MiB --net none --trusted --cache c:/c:promote tests -- \
            sh -c 'for i in $(seq 50); do echo $i >>/c/f$i; done' 3>&- &
        RUNNER=$!
        # Somewhere between its start and some time after its usual end.
        if [ "$ENGINE" = user ]; then sleep "0.0$((RANDOM % 10))"; else sleep "$((RANDOM % 9))"; fi
        kill -KILL "$RUNNER" 2>/dev/null || true
        wait "$RUNNER" || true
        for pid in $(marked); do timeout 10 tail --pid="$pid" -f /dev/null; done
        no_work
        now=$(generation c)
        [ "$now" -eq "$before" ] || [ "$now" -eq $((before + 1)) ]
        before=$now
        [ "$(cat "$(tree c)"/f* | wc -l)" -eq $((50 * now)) ]
    done
    cached --trusted --cache c:/c:promote -- 'rm /c/f*; ls /c'
    [ "$(ls "$(tree c)")" = 1 ]
}

@test "killed at every step of it, a promotion leaves the old generation or the new" {
    user_or_long
    [ "$ENGINE" = user ] || skip "the same in every engine"
    build/tests/kill/kill-at "$TEST_DIR" 0 /dev/null true || skip "no ptrace here"
    # shellcheck disable=SC2016
    run_killed() { # STEP
        build/tests/kill/kill-at "$CACHES" "$1" "$TEST_DIR/log" "$DAYFLY" run --engine user --net none --trusted \
            --cache c:/c:promote tests -- sh -c 'rm /c/d/gone; echo new >/c/new; mkdir /c/d/more; echo new >/c/d/more/new' 2>/dev/null
    }
    mkdir "$CACHES"
    # From nothing, and from a generation.
    for from in 0 2; do
        for g in $(seq $from); do
            cached --trusted --cache c:/c:promote -- "mkdir -p /c/d; echo $g >/c/d/kept; echo $g >/c/d/gone"
        done
        cp -a "$CACHES" "$TEST_DIR/template"
        run_killed 0 || [ "$from" -eq 0 ] # there is nothing to rm, and so it goes on
        mv "$TEST_DIR/log" "$TEST_DIR/steps"
        steps=$(wc -l <"$TEST_DIR/steps")
        [ "$steps" -gt 10 ]
        for step in $(seq "$steps"); do
            # What names something is looked at always, what fills or removes it with DAYFLY_TEST_LONG=1.
            [ -n "${DAYFLY_TEST_LONG:-}" ] || sed -n "${step}p" "$TEST_DIR/steps" | grep -Eq 'mkdir|rename|open' || continue
            rm -rf "$CACHES"
            cp -a "$TEST_DIR/template" "$CACHES"
            run_killed "$step" || true
            no_work
            now=$(generation c)
            echo "from $from, step $step of $steps, $(tail -n 1 "$TEST_DIR/log"): ${now:-none}"
            # An empty place in its stead would be something else.
            [ "$(ls "$CACHES" | grep -c .)" -eq "$([ -n "$now" ] && echo 1 || echo 0)" ]
            case ${now:-0} in
            "$from") [ "$from" -eq 0 ] || [ "$(cd "$(tree c)" && find . -type f | sort | xargs)" = "./d/gone ./d/kept" ] ;;
            $((from + 1))) [ "$(cd "$(tree c)" && find . -type f | sort | xargs)" = "$([ "$from" -eq 0 ] || echo ./d/kept) ./d/more/new ./new" ] ;;
            *) false ;;
            esac
        done
        rm -rf "$TEST_DIR/template"
    done
}

@test "caches are listed, shown and removed" {
    user_or_long
    [ "$("$DAYFLY" cache ls --json)" = "[]" ]
    cached --trusted --cache big:/c:promote -- 'head -c 3000000 /dev/urandom >/c/big'
    cached --trusted --cache big:/c:promote -- 'echo small >/c/small'
    cached --trusted --cache other:/c:promote -- 'echo small >/c/small'
    run "$DAYFLY" cache ls
    [ "${#lines[@]}" -eq 3 ]
    [[ "${lines[1]}" == big*2*2*"2.9 MiB"* ]]
    # One large file in two generations, on the disk once.
    [ "$("$DAYFLY" cache ls --json | jq '.[0].bytes < 4000000 and .[0].bytes >= 3000000')" = true ]
    [ "$("$DAYFLY" cache inspect big --json | jq '.generations | map(.bytes >= 3000000 and .own_bytes < 100000) | all')" = true ]
    run "$DAYFLY" cache inspect big
    [ "${#lines[@]}" -eq 3 ]
    run "$DAYFLY" cache prune --dry-run
    grep -q '^big@1' <<<"$output"
    [ "$(ls "$CACHES/big" | wc -l)" -eq 2 ]
    "$DAYFLY" cache rm big@2
    [ "$(ls "$(tree big)")" = big ]
    "$DAYFLY" cache prune --older-than 0s
    [ "$("$DAYFLY" cache ls --json)" = "[]" ]
    run "$DAYFLY" cache rm big
    [ "$status" -eq 125 ]
    [[ "$output" == *"there is no cache big"* ]]
    run "$DAYFLY" cache inspect ../images
    [ "$status" -eq 125 ]
    no_work
}

@test "without root caches are the same, with directories that nobody may write to or read" {
    [ "$ENGINE" = user ] || skip "the same in every engine"
    is_root || skip "takes another's place"
    setpriv --reuid=65534 --regid=65534 --clear-groups unshare -U true || skip "no user namespaces for users"
    cp "$DAYFLY" "$TEST_DIR/dayfly"
    mkdir "$TEST_DIR/nobody"
    chown 65534:65534 "$TEST_DIR/nobody"
    chmod 755 "$TEST_DIR" "$TEST_DIR/dayfly"
    as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups env DAYFLY_HOME="$TEST_DIR/nobody" "$TEST_DIR/dayfly" "$@"; }
    on_host() { as_nobody run --engine user --net none "${@:1:$#-2}" host -- sh -c "${*: -1}"; }
    CACHES=$TEST_DIR/nobody/caches
    on_host --trusted --cache c:/c:promote -- '
        mkdir -p /c/ro/in /c/none; echo 1 >/c/ro/in/f; echo 2 >/c/none/f; echo 3 >/c/gone; chmod 555 /c/ro/in /c/ro; chmod 0 /c/none/f /c/none'
    run on_host --cache c:/c:ro -- 'cat /c/ro/in/f /c/gone; ls -ld /c/none; echo x >/c/x'
    [[ "$output" == *$'1\n3\n'*"dr-x------"* ]]
    on_host --trusted --cache c:/c:promote -- 'rm /c/gone; chmod 755 /c/ro; echo 4 >/c/ro/f; mv /c/ro/f /c/ro/g; chmod 700 /c/none; rm -rf /c/none; mkdir /c/none; echo 5 >/c/none/g'
    run on_host --cache c:/c -- 'find /c -type f | sort | xargs; chmod 700 /c/ro/in; rm -rf /c/ro; ls /c'
    [ "${lines[0]}" = "/c/none/g /c/ro/g /c/ro/in/f" ]
    echo "$output"
    [ "${lines[1]}" = none ]
    # What is dropped goes, too.
    run on_host --trusted --cache c:/c:promote -- 'mkdir -p /c/x/y; echo 1 >/c/x/y/z; chmod 555 /c/x/y /c/x; exit 1'
    [ "$status" -eq 1 ]
    [ -z "$(ls "$CACHES/.work")" ]
    as_nobody cache prune
    as_nobody cache rm c
    [ -z "$(ls "$CACHES")" ]
}
