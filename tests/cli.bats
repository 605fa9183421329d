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

@test "every command has help and a manual page without faults" {
    command -v man || skip "man is not installed"
    for command in $("$DAYFLY" --help | awk '/^Commands:/ {on=1; next} /^$/ {on=0} on {print $1}'); do
        "$DAYFLY" "$command" --help | grep -q "^Usage: dayfly $command"
        "$DAYFLY" help --man "$command" > page.1
        run -0 --separate-stderr man --warnings -l page.1
        [ -z "$stderr" ]
    done
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

@test "vm run says the faults as validate does" {
    printf 'cpu: 2\nlinux: {kernel: vmlinuz}\n' > m.yaml
    touch vmlinuz
    run -125 --separate-stderr "$DAYFLY" vm run -f m.yaml
    [ -z "$output" ]
    [ "${stderr_lines[0]}" = 'm.yaml:1:1: error: unknown key "cpu"' ]
    [ "${stderr_lines[1]}" = '    hint: did you mean `cpus`?' ]
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
