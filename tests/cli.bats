# SPDX-License-Identifier: Apache-2.0
# The command line's frame, and the commands that need no machine. DAYFLY is the program under test.

bats_require_minimum_version 1.5.0

setup() {
    mkdir "$BATS_TEST_TMPDIR/here" # run keeps files of its own above it
    cd "$BATS_TEST_TMPDIR/here"
}

@test "version and help go to stdout and succeed" {
    run -0 --separate-stderr "$DAYFLY" --version
    [[ $output =~ ^dayfly\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
    [ -z "$stderr" ]
    run -0 --separate-stderr "$DAYFLY" --help
    [[ $output == *"validate"* ]]
    [ -z "$stderr" ]
}

@test "nonsense exits 125 and names the nearest thing" {
    run -125 --separate-stderr "$DAYFLY" validte x
    [ -z "$output" ]
    [[ $stderr == *'did you mean "validate"?'* ]]
    run -125 "$DAYFLY" validate --jsn x
    [[ $output == *"did you mean --json?"* ]]
    run -125 "$DAYFLY"
}

@test "output that cannot be written is a failure" {
    run -125 bash -c '"$DAYFLY" help --man > /dev/full'
    [[ $output == *"No space left"* ]]
}

@test "a caller that ignores SIGCHLD gets the status of its job" {
    run -7 timeout -k 5 60 env --ignore-signal=CHLD "$DAYFLY" run --engine none host -- sh -c 'exit 7'
}

@test "every command has help and a manual page without faults" {
    command -v man || skip "man is not installed"
    for command in $("$DAYFLY" --help | awk '/^Commands:/ {on=1; next} /^$/ {on=0} on {print $1}'); do
        "$DAYFLY" "$command" --help | grep -q "^Usage: dayfly $command"
        "$DAYFLY" help --man "$command" > page.1
        run -0 --separate-stderr man --warnings -l page.1
        [ -z "$stderr" ]
    done
}

@test "doctor names its checks, and each can be asked for" {
    export DAYFLY_HOME=$PWD/home
    "$DAYFLY" doctor 2> found || [ $? -eq 125 ]
    help=$("$DAYFLY" doctor --help | tr '\n' ' ')
    names=$(awk '{print $2}' found)
    [ "$(wc -w <<< "$names")" -ge 9 ]
    for name in $names; do
        [[ $help =~ "CHECK is one of "[^.]*"$name"[,\ .] ]]
        "$DAYFLY" doctor "$name" 2> one || [ $? -eq 125 ]
        [ "$(awk '{print $1, $2}' one)" = "$(awk -v name="$name" '$2 == name {print $1, $2}' found)" ]
    done
    run -125 "$DAYFLY" doctor nope
    run -125 --separate-stderr env PATH=/nowhere "$DAYFLY" doctor pull
    [ "$stderr" = "no   pull    dayfly image pull and push: skopeo is not installed: apt-get install skopeo" ]
}

@test "doctor tells who cannot make files of any owner" {
    [ "$EUID" -eq 0 ] || skip "only root can be another user"
    other=(setpriv --reuid 54321 --regid 54321 --clear-groups)
    "${other[@]}" "$DAYFLY" --version || skip "another user cannot run it"
    "$DAYFLY" doctor ids
    run -125 --separate-stderr "${other[@]}" "$DAYFLY" doctor ids
    [[ $stderr == "no   ids "*"apt-get install uidmap" || $stderr == "no   ids "*"/etc/subuid has no ids for this user"* ]]
}

@test "bash completes commands and options" {
    source <("$DAYFLY" completion bash)
    complete_words() {
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _dayfly
        echo "${COMPREPLY[*]}"
    }
    [ "$(complete_words dayfly val)" = validate ]
    [ "$(complete_words dayfly validate --j)" = --json ]
    [ "$(complete_words dayfly help --m)" = --man ]
}

@test "completion for zsh and fish is well-formed where those are installed" {
    command -v zsh || command -v fish || skip "neither is installed"
    for shell in zsh fish; do
        if command -v $shell; then
            "$DAYFLY" completion $shell > script
            $shell -n script
        fi
    done
}

@test "validate says every fault with its place, and changes nothing" {
    printf 'cpu: 2\nlinux:\n  kernel: vmlinux\nmemory: 512MB\n' > m.yaml
    touch vmlinuz
    before=$(ls -l --time-style=full-iso)
    run -125 --separate-stderr "$DAYFLY" validate m.yaml
    [ -z "$output" ]
    [ "$stderr" = 'm.yaml:1:1: error: unknown key "cpu"
    hint: did you mean `cpus`?
m.yaml:3:11: error: linux.kernel: there is no file vmlinux
    hint: did you mean vmlinuz?
m.yaml:4:9: error: memory: expected a size, found "512MB"
    hint: write `memory: 512MiB`; the units are K, M, G, T, KiB, MiB, GiB and TiB
m.yaml: 3 errors' ]
    [ "$before" = "$(ls -l --time-style=full-iso)" ]
}

@test "validate accepts the example of a job" {
    example=$BATS_TEST_DIRNAME/../examples/build.yaml
    run -0 "$DAYFLY" validate "$example"
    [ "$output" = "$example: no errors" ]
}

@test "vm run says the faults as validate does" {
    printf 'cpu: 2\nlinux: {kernel: vmlinuz}\n' > m.yaml
    touch vmlinuz
    run -125 --separate-stderr "$DAYFLY" vm run -f m.yaml
    [ -z "$output" ]
    [ "$stderr" = 'm.yaml:1:1: error: unknown key "cpu"
    hint: did you mean `cpus`?
dayfly vm run: m.yaml: 1 error' ]
}

@test "run says each fault of a job file once, and how many there are" {
    printf 'image: host\nstep: []\ncpus: many\n' > job.yaml
    run -125 --separate-stderr "$DAYFLY" run -f job.yaml
    [ "${stderr_lines[0]}" = 'job.yaml:2:1: error: unknown key "step"' ]
    [ "${stderr_lines[2]}" = 'job.yaml:3:7: error: cpus: expected a whole number, found "many"' ]
    [ "${stderr_lines[-1]}" = 'dayfly run: job.yaml: 2 errors' ]
    [ "${#stderr_lines[@]}" -eq 5 ]
    run -125 --separate-stderr "$DAYFLY" run -f gone.yaml
    [ "$stderr" = 'dayfly run: gone.yaml: No such file or directory' ]
}

@test "a job is not run as a machine, nor a machine as a job" {
    printf 'image: host\ncommand: ["true"]\n' > job.yaml
    run -125 --separate-stderr "$DAYFLY" vm run -f job.yaml
    [ "$stderr" = 'dayfly vm run: job.yaml is a job: `dayfly run -f job.yaml`' ]
    printf 'cpus: 1\nlinux: {kernel: vmlinuz}\n' > machine.yaml
    run -125 --separate-stderr "$DAYFLY" run -f machine.yaml
    [ "$stderr" = 'dayfly run: machine.yaml is a machine: `dayfly vm run -f machine.yaml`' ]
    run -0 "$DAYFLY" run --engine none -f <(cat job.yaml)
}

@test "0 is refused where it would stand for nothing given" {
    while read -r option value message; do
        run -125 --separate-stderr "$DAYFLY" run "$option" "$value" no-such-image -- true
        [ "${stderr_lines[0]}" = "dayfly run: $option: $message" ]
    done <<'OPTIONS'
--memory 0 0 is no size; leave the option out for the default
--disk 0K 0 is no size; leave the option out for the default
--artifact-limit 0 0 is no size; leave the option out for the default
--timeout 0s 0 is no time; leave the option out for none
--cpus 0 0 is out of range: it must be from 1 to 254
OPTIONS
}

@test "a secret of the command line replaces the file's of its name, whichever form they have" {
    printf '%s\n' 'image: host' 'engine: none' 'secrets:' '  - {name: TOKEN, env: NOT_THERE}' \
        '  - {name: OTHER}' 'command: [sh, -c, "echo $TOKEN"]' > job.yaml
    export OTHER=other-secret MINE=my-own-secret
    run -0 --separate-stderr "$DAYFLY" run -f job.yaml --secret-env TOKEN=env:MINE --secret-env OTHER
    [ "$output" = '***' ]
    # Engine none has no place for a file, which is seen when the values have been read.
    printf '%s\n' 'image: host' 'engine: none' 'secrets:' \
        '  - {name: TOKEN, env: NOT_THERE, variable: true}' 'command: ["true"]' > job.yaml
    run -125 --separate-stderr "$DAYFLY" run -f job.yaml --secret TOKEN=env:MINE
    [[ $stderr == *"no place of its own for the secret TOKEN"* ]]
}

@test "a share that cannot be is refused before anything starts" {
    touch file
    mkdir dir
    while IFS='|' read -r share message; do
        run -125 --separate-stderr "$DAYFLY" run --share "$share" no-such-image -- true
        [ -z "$output" ]
        [ "$stderr" = "dayfly run: $message" ]
    done <<'SHARES'
gone:/src|share gone: there is no folder of that name
file:/src:ro|share file: it is a file; share the folder that it is in
dir|share dir: write SRC:DST, with DST as an absolute path in the guest
dir:src|share dir:src: write SRC:DST, with DST as an absolute path in the guest
dir:/|share dir:/: the guest's root is the image's: name a place below it
dir:/src/../etc|share dir:/src/../etc: the place in the guest has ".." in it: write where it is
dir:/proc/x|share dir:/proc/x: /proc belongs to the guest's kernel: take another place
dir:/src:cache=never|share dir:/src:cache=never: cache is auto, none or always, and not "never"
SHARES
    run -125 "$DAYFLY" run --share dir:/src --share "$PWD:/./src/:ro" no-such-image -- true
    [ "$output" = "dayfly run: two shares at /src: give each its own place" ]
}

@test "validate names the faults of shares" {
    printf 'linux: {kernel: vmlinuz}\nshares:\n  - {tag: a, path: gone}\n  - {tag: a, path: ., mode: wr}\n' > m.yaml
    echo x > vmlinuz
    run -125 --separate-stderr "$DAYFLY" validate m.yaml
    [ "$stderr" = 'm.yaml:3:20: error: shares[0].path: there is no folder gone
    hint: make it, or correct the path
m.yaml:4:11: error: shares[1].tag: "a" is taken
    hint: shares[0] has it; give each its own
m.yaml:4:29: error: shares[1].mode: expected one of rw, ro, cow, found "wr"
    hint: write `mode: ro`
m.yaml: 3 errors' ]
}

@test "validate accepts a good machine, from any folder" {
    mkdir vm
    printf 'linux: {kernel: vmlinuz}\n' > vm/m.yaml
    echo x > vm/vmlinuz
    run -0 "$DAYFLY" validate vm/m.yaml
    [ "$output" = "vm/m.yaml: no errors" ]
    run -125 "$DAYFLY" validate vm/gone.yaml
    [ "$output" = "dayfly validate: vm/gone.yaml: No such file or directory" ]
}

@test "validate --json is JSON, whatever the names" {
    file=$'m\xff.yaml'
    printf 'linux: {kernel: "\\e[31m"}\n' > "$file"
    run -125 --separate-stderr "$DAYFLY" validate --json "$file"
    [ -z "$stderr" ]
    python3 -c '
import json, sys
told = json.load(sys.stdin)
assert not told["valid"]
assert [(f["line"], f["column"], f["where"]) for f in told["faults"]] == [(1, 17, "linux.kernel")], told
' <<< "$output"
}

@test "changes of a share are listed, promoted and dropped" {
    [ "$EUID" -eq 0 ] || skip "only root can make the marks by hand"
    mkdir base
    echo old > base/file
    echo old > base/gone
    changes() {
        mkdir -p changes/upper changes/work
        printf %s "$PWD/base" > changes/origin
        echo new > changes/upper/file
        echo new > $'changes/upper/bell\a'
        mknod changes/upper/gone c 0 0
    }
    changes
    run -0 "$DAYFLY" changes ls changes
    [ "$output" = "A bell?"$'\n'"M file"$'\n'"D gone" ]
    "$DAYFLY" changes ls --json changes |
        python3 -c 'import json, sys; assert json.load(sys.stdin)[2] == {"change": "deleted", "path": "gone"}'
    "$DAYFLY" changes drop changes
    [ "$(cat base/file)" = old ]
    run -125 "$DAYFLY" changes ls changes
    [[ $output == *"holds no changes"* ]]
    changes
    flock changes "$DAYFLY" changes promote changes && false
    "$DAYFLY" changes promote changes
    [ "$(cat base/file)" = new ]
    [ ! -e base/gone ]
    [ -z "$(ls -A changes)" ]
}

@test "fs refuses what cannot be shared, and leaves no socket" {
    refused() { # TEXT OPTION...
        local text=$1
        shift
        run -125 timeout 20 "$DAYFLY" fs "$@"
        [[ $output == *"$text"* ]] || { echo "$output"; return 1; }
        [ ! -e fs.sock ]
    }
    mkdir a b
    touch file
    refused "--socket PATH" --dir a
    refused "--dir DIR" --socket fs.sock
    refused "share none: No such file" --socket fs.sock --dir none
    refused "share file: Not a directory" --socket fs.sock --dir file
    refused "each needs a name" --socket fs.sock --dir first=a --dir b
    refused "no name of a folder" --socket fs.sock --dir ..=a
    refused "0:100000:65536" --socket fs.sock --dir a --ids map --map-uids 0:0:0
    refused "--ids map only" --socket fs.sock --dir a --map-gids 0:1:1
    refused "nothing to gather" --socket fs.sock --dir a --cache none --writeback
    refused "--mode cow" --socket fs.sock --dir a --changes b
    refused "1 to 36 bytes" --socket fs.sock --dir a --tag "$(printf '%040d' 0)"
    refused "socket none/fs.sock: No such file" --socket none/fs.sock --dir a
}

@test "fs removes its socket when it is told to end" {
    mkdir a=b
    for signal in TERM INT; do
        # Jobs of a shell without job control ignore SIGINT.
        set -m
        "$DAYFLY" fs --socket fs.sock --dir ./a=b 3>&- &
        daemon=$!
        set +m
        for ((i = 0; i < 500; i++)); do
            if [ -S fs.sock ]; then break; fi
            read -rt 0.02 <> <(:) || true
        done
        [ "$(stat -c %a fs.sock)" = 600 ]
        kill -$signal $daemon
        wait $daemon
        [ ! -e fs.sock ]
    done
}

@test "bench refuses what it does not know, before it measures" {
    export DAYFLY_HOME=$PWD/home
    while IFS='|' read -r option value message; do
        run -125 --separate-stderr "$DAYFLY" bench "$option" "$value"
        [ -z "$output" ]
        [ "$stderr" = "dayfly bench: $message" ]
    done <<'OPTIONS'
--rows|none,kvn|there is no row 'kvn'; there are none, user-host, user, kvm, tcg, podman and docker
--columns|boot|there is no column 'boot'; there are start, build, cpu, read, write, memory and destroy
--html|gone/page.html|--html gone/page.html: No such file or directory
--dir|gone|--dir gone: No such file or directory
OPTIONS
    run -125 --separate-stderr "$DAYFLY" bench --rows none --columns build --source gone
    [ "$stderr" = "dayfly bench: sources gone: No such file or directory" ]
    [ -z "$(ls -A home/bench 2>/dev/null)" ]
}

@test "bench boot refuses what it does not know, and times a start of any place" {
    run -125 --separate-stderr "$DAYFLY" bench boot --memory 1GiB,2XB
    [[ "$stderr" = "dayfly bench boot: --memory: "* ]]
    run -125 --separate-stderr "$DAYFLY" bench boot --cpus 1,0
    [[ "$stderr" = "dayfly bench boot: --cpus: "* ]]
    run -125 --separate-stderr "$DAYFLY" bench boot --engine none --image host --cpus "$(seq -s, 1 17)"
    [ "$stderr" = "dayfly bench boot: --cpus: more than 16" ]
    run -125 --separate-stderr "$DAYFLY" bench boot extra
    "$DAYFLY" bench boot --engine none --image host -n 2 > text
    grep -q '^engine none, image host, 2 rounds$' text
    grep -qE '^words .* [0-9.]+ +\([0-9.]+ to [0-9.]+\)$' text
    "$DAYFLY" run --engine none --trace trace.json host -- true
    grep -q '"started"' trace.json
    run -125 --separate-stderr "$DAYFLY" run --engine none --trace /proc/nowhere/at/all host -- true
    [[ "$stderr" = "dayfly run: --trace: "*": No such file or directory" ]]
}

@test "a run that fails has a report that says so, in place of an older one" {
    bare() { "$DAYFLY" run --engine none --report new/below/r.json "$@"; }
    told() { jq -c '[.error, .exit.code, .exit.signal, .audit.clean]' new/below/r.json; }
    export DAYFLY_HOME=$PWD/home
    bare host -- true
    [ "$(told)" = '[null,0,null,true]' ]
    run -125 --separate-stderr bare --expect-state "sha256:$(printf %064d 0)" host -- true
    [ "dayfly run: $(jq -r .error new/below/r.json)" = "$stderr" ]
    [[ $(told) == *',125,null,true]' ]]
    # Before there is a job at all.
    for fault in '--share nowhere host' '-f nowhere.yaml' '--trace new/below host'; do
        bare host -- true
        run -125 --separate-stderr bare $fault -- true
        [ "dayfly run: $(jq -r .error new/below/r.json)" = "$stderr" ]
        [[ $(told) == *',125,null,null]' ]]
    done
    # One that is killed has none.
    bare host -- sh -c 'read -r _ _ _ runner _ < /proc/$PPID/stat; kill -9 "$runner"' || true
    [ ! -e new/below/r.json ]
}

@test "doc/report.md has every key of a report" {
    cat > job.yaml <<'YAML'
image: host
engine: none
steps:
  - run: mkdir made; cd made; echo text > file; ln -s file link; mkfifo pipe
  - run: kill -9 $$
artifacts: [{path: made, to: out/}, {path: missing}]
YAML
    run -137 "$DAYFLY" run -f job.yaml --report report.json
    run -125 "$DAYFLY" run --engine none --expect-state none --report failed.json host -- true
    "$BATS_TEST_DIRNAME/check-report" "$BATS_TEST_DIRNAME/../doc/report.md" report.json failed.json
    # And the check finds what is wrong.
    jq 'del(.exit.code) | .new = 1 | .steps[0].ms = "x"' report.json > wrong.json
    run -1 "$BATS_TEST_DIRNAME/check-report" "$BATS_TEST_DIRNAME/../doc/report.md" wrong.json
    [ "${#lines[@]}" -eq 3 ]
}

@test "a report that cannot be written is found before the job runs" {
    touch file
    for place in file/r.json . file/new/r.json; do
        run -125 "$DAYFLY" run --engine none --report "$place" host -- touch ran
        [[ $output == "dayfly run: the report $place: "* ]]
        [ ! -e ran ]
    done
}

@test "bench measures bare metal anywhere, and says it in four ways" {
    mkdir source
    echo one > source/file
    export DAYFLY_HOME=$PWD/home
    bench() {
        "$DAYFLY" bench --rows none --columns start,build,destroy -n 2 --source source \
            --build 'grep -q one file && cp file "made here"' "$@"
    }
    bench > text
    grep -qE '^  none  [0-9.]+ \([0-9.]+ to [0-9.]+\) +x 1.000' text
    grep -qE "again +dayfly bench --rounds 2 --rows none .*--build 'grep -q one file" text
    bench --markdown --html page.html | grep -qE '^\| bare metal \| [0-9.]+ \('
    python3 - <<'PY'
import html.parser
open_tags, empty = [], {"meta", "link", "br", "line", "circle"}
class Page(html.parser.HTMLParser):
    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "img", "iframe"), tag
        assert not {"src", "href"} & {name for name, value in attributes}
        if tag not in empty:
            open_tags.append(tag)
    def handle_endtag(self, tag):
        assert open_tags.pop() == tag, tag
    def handle_startendtag(self, tag, attributes):
        assert tag in empty, tag
Page().feed(open("page.html").read())
assert not open_tags
PY
    bench --json > table.json
    python3 - <<'PY'
import json
table = json.load(open("table.json"))
assert [c["name"] for c in table["columns"]] == ["start", "build", "destroy"]
assert table["host"]["processors"] > 0 and table["settings"]["rounds"] == 2
assert table["interrupted"] is None and table["rounds_done"] == 2
(row,) = table["rows"]
assert row["name"] == "none" and row["works"] and row["why"] is None
for name, runs in (("start", 6), ("build", 2), ("destroy", 6)):
    figure = row["figures"][name]
    assert figure["count"] == runs == len(figure["runs"]), figure
    assert 0 < figure["least"] <= figure["median"] <= figure["most"], figure
    assert figure["ratio"]["median"] == 1
PY
    [ -z "$(ls -A home/bench)" ]
}

@test "a build that fails is said with its last words, and is a failure" {
    mkdir source
    touch source/file
    run -125 "$DAYFLY" bench --dir . --rows none --columns start,build -n 2 --source source \
        --build 'echo the reason >&2; exit 3'
    [[ $output == *"to first command"* ]]
    [[ $output == *"build: status 1: the reason"* || $output == *"apt-get install gcc"* ]]
}

@test "bench ends at a signal with what it has, and leaves nothing" {
    mkdir source
    mkfifo started
    # The third build waits for ever, with a child that ignores the signal.
    cat > source/build <<BUILD
echo >> "$PWD/count"
[ "\$(wc -l < "$PWD/count")" -ge 3 ] || exit 0
trap '' TERM
echo x > "$PWD/started"
sleep 98765
BUILD
    "$DAYFLY" bench --dir . --rows none --columns build -n 1000 --source source --build 'sh ./build' > text 2> err 3>&- &
    bench=$!
    read -r line < started
    [ "$line" = x ]
    kill -INT $bench
    status=0
    wait $bench || status=$?
    [ "$status" -eq 130 ]
    grep -qE '^  none  [0-9.]+ ' text
    [ "$(echo dayfly-bench-*)" = 'dayfly-bench-*' ]
    run ! pgrep -f "sleep 98765"
}

@test "prune says what it removes, and keeps what is used" {
    export DAYFLY_HOME=$PWD/home TMPDIR=$PWD/tmp
    mkdir -p home/tmp tmp/dayfly-door-left tmp/dayfly-door-used out/.dayfly-artifact-000000000000
    touch home/tmp/tmp-left
    exec 7<tmp/dayfly-door-used
    flock -x 7
    # Others may have left something on this host, too.
    [ "$("$DAYFLY" prune --dry-run out | grep -c -e "$PWD" -e ' out/')" -eq 3 ]
    [ -e home/tmp/tmp-left ]
    "$DAYFLY" prune --json --dry-run | jq -e --arg dir "$PWD" '[.[] | select(.name | startswith($dir))] | length == 2'
    "$DAYFLY" prune out | grep -x "socket $PWD/tmp/dayfly-door-left"
    [ ! -e home/tmp/tmp-left ]
    [ ! -e out/.dayfly-artifact-000000000000 ]
    [ "$(ls tmp)" = dayfly-door-used ]
    [ -z "$("$DAYFLY" prune out | grep -F "$PWD")" ]
    run -125 --separate-stderr "$DAYFLY" prune no-such-directory
    [[ $stderr == *"no-such-directory: No such file"* ]]
    [[ $stderr != *"nothing was left"* ]]
}

@test "what is not there is refused with what helps" {
    export DAYFLY_HOME=$PWD/home
    : > no-package
    while IFS='|' read -r words message; do
        # shellcheck disable=SC2086
        run -125 --separate-stderr "$DAYFLY" $words
        [ "${stderr_lines[-1]}" = "dayfly $message" ]
    done <<'WORDS'
image rm nope|image rm: there is no image "nope"; `dayfly image ls` lists them
image tag nope other|image tag: there is no image "nope"; `dayfly image ls` lists them
image push nope oci:there|image push: there is no image "nope"; `dayfly image ls` lists them
kernel rm nope|kernel rm: there is no kernel "nope"; `dayfly kernel ls` lists them
kernel import no-package|kernel import: no-package: not a Debian package (no ar archive); give a linux-image-*.deb
cache rm nope|cache rm: there is no cache nope; `dayfly cache ls` lists them
cache inspect nope|cache inspect: there is no cache nope; `dayfly cache ls` lists them
run --artifact= host|run: artifact '': write GUEST or GUEST:HOST
run --allow a^b host|run: --allow: 'a^b': write NAME, *.NAME, ADDRESS[/BITS], each with or without :PORT; host:PORT; or *
WORDS
    run -127 --separate-stderr "$DAYFLY" run --engine none host --user x
    [[ $stderr == *"command --user: not in PATH"*"; options of dayfly stand before the image" ]]
}
