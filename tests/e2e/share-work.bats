#!/usr/bin/env bats
# Shared folders at work: many writers, large files, copy on write, and what is left at the end.

load common
load share

@test "many at once: eight writers, as a parallel build would" {
    make_share
    run job --share "$SHARE:/s" -- sh -c '
        mkdir /s/src /s/obj && cd /s
        for i in $(seq 60); do echo "int f$i(void);" >src/$i.c; done
        ls src | xargs -P 8 -n 5 sh -c "for f; do
            cat src/\$f src/\$f >obj/\$f.tmp && mv obj/\$f.tmp obj/\${f%.c}.o && touch -r src/\$f obj/\${f%.c}.o || echo failed
        done" sh
        ls obj | wc -l
        for i in 1 2 3 4; do (for n in $(seq 25); do echo "$i $n" >>all; done) & done; wait
        sort -u all | wc -l
        rm -r src & rm -r obj/1* & wait; ls obj | wc -l; ls -a /s | grep -c src'
    echo "$output"
    [ "$status" -eq 1 ] # grep found no src
    [ "$output" = $'60\n100\n49\n0' ]
    [ "$(find "$SHARE/obj" -type f | wc -l)" -eq 49 ]
    [ "$(sort "$SHARE/all" | uniq | wc -l)" -eq 100 ]
    [ "$(cat "$SHARE/obj/60.o")" = $'int f60(void);\nint f60(void);' ]
    [ ! -e "$SHARE/src" ]
    nothing_left
}

@test "a file that is removed while it is open is there until it is closed" {
    make_share
    run job --share "$SHARE:/s" -- sh -c '
        cd /s && echo one >file && exec 3<file 4>>file && rm file && echo two >&4 && ls -a && cat <&3
        echo other >file; exec 5<file; echo new >made && mv made file && cat <&5; cat file'
    [ "$status" -eq 0 ]
    [ "$output" = $'.\n..\none\ntwo\nother\nnew' ]
    [ "$(ls -A "$SHARE")" = file ]
    [ "$(cat "$SHARE/file")" = new ]
}

@test "300 MB there and back, unchanged" {
    long
    make_share
    head -c 300000000 /dev/urandom >"$SHARE/there"
    chmod 644 "$SHARE/there"
    LIMIT=$((LIMIT * 3)) # translated, a hundred megabytes are a matter of half a minute
    run job --share "$SHARE:/s" -- sh -c 'cd /s && md5sum there && cp there back'
    [ "$status" -eq 0 ]
    [ "${output%% *}" = "$(md5sum <"$SHARE/there" | cut -d' ' -f1)" ]
    cmp "$SHARE/there" "$SHARE/back"
}

@test "what the guest still held when the command ended is on the host" {
    make_share
    # A process that is left over holds the file open, so that no close has written it back.
    run job --share "$SHARE:/s:writeback" -- sh -c '
        mkfifo /tmp/done /tmp/never
        awk "BEGIN { while (i++ < 100) print \"a line of text\" >\"/s/late\"; fflush(\"/s/late\")
            print \"done\" >\"/tmp/done\"; fflush(\"/tmp/done\"); getline <\"/tmp/never\" }" >/dev/null 2>&1 &
        read -r line </tmp/done; echo "$line"'
    [ "$status" -eq 0 ]
    [ "$output" = "done" ]
    [ "$(grep -cx 'a line of text' "$SHARE/late")" -eq 100 ]
    nothing_left
}

@test "cow: the guest changes what it likes, and the host's directory stays as it is" {
    is_root || skip "only root can"
    make_share
    mkdir "$SHARE/dir"
    echo lower >"$SHARE/dir/file"
    echo gone >"$SHARE/gone"
    ln "$SHARE/gone" "$SHARE/hard"
    chown -R --reference="$SHARE" "$SHARE"
    look "$SHARE" >"$TEST_DIR/before"
    run job --share "$SHARE:/s:cow" -- sh -c '
        cd /s && echo upper >>dir/file && rm gone && mkdir new && echo x >new/file && mv dir moved && chmod 600 hard &&
        cat moved/file new/file && ls'
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$output" = $'lower\nupper\nx\nhard\nmoved\nnew' ]
    look "$SHARE" | diff "$TEST_DIR/before" -
    run job --share "$SHARE:/s:cow" -- ls /s
    [ "$output" = $'dir\ngone\nhard' ]
    nothing_left
}

@test "cow with changes: the difference stays, is seen by the next run, and can be promoted" {
    is_root || skip "only root can"
    make_share
    echo lower >"$SHARE/file"
    chown --reference="$SHARE" "$SHARE/file"
    run job --share "$SHARE:/s:cow,changes=$TEST_DIR/changes" -- sh -c 'echo upper >/s/file; echo x >/s/new'
    [ "$status" -eq 0 ]
    [ "$(cat "$SHARE/file")" = lower ]
    run job --share "$SHARE:/s:cow,changes=$TEST_DIR/changes" -- sh -c 'cat /s/file /s/new; rm /s/new'
    [ "$output" = $'upper\nx' ]
    [ "$("$DAYFLY" changes ls "$TEST_DIR/changes")" = "M file" ]
    "$DAYFLY" changes promote "$TEST_DIR/changes"
    [ "$(cat "$SHARE/file")" = upper ]
}

@test "kill -9 of the runner leaves the share's files, and nothing else" {
    make_share
    start_talking_job --share "$SHARE:/s" -- '
        exec 3>/s/open; echo written >/s/file; echo waiting; while :; do echo more >&3; done'
    expect waiting
    [ -n "$(marked)" ]
    kill -KILL "$RUNNER"
    wait "$RUNNER" || true
    nothing_left
    [ "$(cat "$SHARE/file")" = written ]
    [ "$(ls -A "$SHARE" | tr '\n' ' ')" = "file open " ]
}

@test "the start state counts where shares are, and not what is in them" {
    make_share
    digest() {
        job --report "$TEST_DIR/report.json" "$@" -- true
        python3 - "$TEST_DIR/report.json" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
print(report["start_state"]["digest"], json.dumps(report["shares"]))
PY
    }
    local first second third
    first=$(digest --share "$SHARE:/s:ro")
    [ "${first#* }" = "[{\"source\": \"$SHARE\", \"path\": \"/s\", \"mode\": \"ro\"}]" ]
    touch "$SHARE/more"
    second=$(digest --share "$SHARE:/s:ro")
    third=$(digest --share "$SHARE:/s")
    [ "$first" = "$second" ]
    [ "${first%% *}" != "${third%% *}" ]
}

@test "a described machine has what its file says, several directories under one tag" {
    make_initrd 'mkdir -p /one /two
mount -t virtiofs one /one; mount -t virtiofs "two words" /two
ls -1 /two; cat /one/file /two/a/file; echo guest >/one/new; echo no >/two/a/new; echo yes >"/two/b c/new"
mkdir /two/made; rmdir /two/a; ls -1 /two
poweroff -f'
    sed -i '2i PATH=/bin; /bin/busybox --install -s /bin' "$TEST_DIR/root/init"
    (cd "$TEST_DIR/root" && find . | cpio -o -H newc --quiet) >"$TEST_DIR/initrd"
    mkdir "$TEST_DIR/one" "$TEST_DIR/a" "$TEST_DIR/b"
    echo "of one" >"$TEST_DIR/one/file"
    echo "of a" >"$TEST_DIR/a/file"
    cat >"$TEST_DIR/machine.yaml" <<YAML
memory: 256MiB
linux: {kernel: $KERNEL, initrd: initrd, command_line: "console=ttyS0 quiet panic=-1 reboot=t"}
serial: {output: stdio}
shares:
  - {tag: one, path: one}
  - tag: two words
    directories:
      - {name: a, path: a, mode: ro}
      - {name: b c, path: b}
YAML
    run timeout -k 10 "$LIMIT" "$DAYFLY" vm run --engine "$ENGINE" -f "$TEST_DIR/machine.yaml" </dev/null
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "${output//$'\r'/}" == *$'a\nb c\nof one\nof a\n'* ]]
    [ "$(cat "$TEST_DIR/one/new")" = guest ]
    [ "$(cat "$TEST_DIR/b/new")" = yes ]
    [ "$(ls "$TEST_DIR/a")" = file ]
    [[ "${output//$'\r'/}" == *$'\na\nb c'* ]]
    nothing_left
}
