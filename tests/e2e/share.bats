#!/usr/bin/env bats
# Shared folders: what the guest may do, what the host sees, and when.

load common

# A directory to share, and what everybody may do in it as root of either side.
make_share() {
    SHARE=$TEST_DIR/share
    mkdir "$SHARE"
    if is_root; then chown 1234:1235 "$SHARE"; fi
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# All that can be seen of a tree: names, kinds, modes, owners, sizes, times and contents.
look() {
    (cd "$1" && find . -printf '%p %y %m %U:%G %s %T@ %l\n' | sort && find . -type f -print0 | sort -z | xargs -0r md5sum)
}

# Start a job in the background whose standard input is descriptor 6 and whose output is descriptor 7.
start_talking_job() { # OPTION ... -- SCRIPT
    mkfifo "$TEST_DIR/in" "$TEST_DIR/out"
    "$DAYFLY" run -i --engine "$ENGINE" --cpus 1 --memory 256MiB "${@:1:$#-2}" tests -- sh -c "${*: -1}" \
        <"$TEST_DIR/in" >"$TEST_DIR/out" 2>"$TEST_DIR/err" 3>&- &
    RUNNER=$!
    exec 6>"$TEST_DIR/in" 7<"$TEST_DIR/out"
}

expect() {
    local line
    read -r -t "$LIMIT" line <&7
    echo "the guest said: $line"
    [ "$line" = "$1" ]
}

@test "ro cannot be written, though root in the guest tries" {
    make_share
    mkdir "$SHARE/dir"
    echo kept >"$SHARE/file"
    look "$SHARE" >"$TEST_DIR/before"
    run job --share "$SHARE:/s:ro" -- sh -c '
        grep " /s " /proc/mounts
        mount -o remount,rw /s; mkdir /t; mount -t virtiofs share0 /t
        for top in /s /t; do
            for do in "touch new" "rm file" "mkdir made" "rmdir dir" "mv file moved" "chmod 600 file" \
                "chown 5:5 file" "ln -s a link" "ln file hard" "truncate -s 1 file" "touch -d @1 file" \
                "mknod pipe p" "tee -a file"; do
                (cd $top 2>/dev/null && echo x | $do >/dev/null 2>&1) && echo "could: $do"
            done
        done
        cat /s/file'
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" =~ \ virtiofs\ ro,nosuid,nodev ]]
    [[ "$output" != *could:* ]]
    [ "${lines[-1]}" = kept ]
    look "$SHARE" | diff "$TEST_DIR/before" -
}

@test "rw: what the guest makes is on the host, with the owner and the content it should have" {
    make_share
    if is_root; then
        echo theirs >"$SHARE/theirs"
        chown 77:77 "$SHARE/theirs"
    fi
    run job --share "$SHARE:/s" -- sh -c '
        grep -o " /s .*nosuid,nodev" /proc/mounts
        cd /s && mkdir -m 750 dir && echo content >dir/file && chmod 640 dir/file && ln -s file dir/link &&
        mknod dir/pipe p && chown 9:9 dir/file; ls -ln /s; ls -ln dir/file'
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" == *"rw,nosuid,nodev"* ]]
    [[ "$output" =~ drwxr-x---\ +2\ 0\ +0 ]] # the share's owner is root there
    [[ "$output" =~ -rw-r-----\ +1\ 0\ +0 ]]
    if is_root; then [[ "$output" =~ \ 65534\ +65534.*theirs ]]; fi
    [ "$(cat "$SHARE/dir/file")" = content ]
    [ "$(stat -c %a "$SHARE/dir")" = 750 ]
    [ "$(stat -c %a "$SHARE/dir/file")" = 640 ]
    [ "$(stat -c %U:%G "$SHARE/dir/file")" = "$(stat -c %U:%G "$SHARE")" ]
    [ "$(readlink "$SHARE/dir/link")" = file ]
    [ -p "$SHARE/dir/pipe" ]
    nothing_left
}

@test "shown_uid gives the files to another user of the guest" {
    make_share
    echo before >"$SHARE/old"
    if is_root; then chown 1234:1235 "$SHARE/old"; fi
    run job --share "$SHARE:/s:shown_uid=1000,shown_gid=1000" --user builder --workdir /s -- sh -c '
        echo after >>old && echo mine >new && stat -c "%U %G" /s old new'
    [ "$status" -eq 0 ]
    [ "$output" = $'builder builder\nbuilder builder\nbuilder builder' ]
    [ "$(cat "$SHARE/old")" = $'before\nafter' ]
    [ "$(stat -c %u "$SHARE/new")" = "$(stat -c %u "$SHARE")" ]
}

@test "ids=identity keeps the numbers" {
    is_root || skip "only root can"
    make_share
    run job --share "$SHARE:/s:ids=identity" -- sh -c '
        stat -c "%u:%g" /s; touch /s/roots && echo x >/s/given && chown 1000:10 /s/given'
    [ "$status" -eq 0 ]
    [ "$output" = 1234:1235 ]
    [ "$(stat -c %u:%g "$SHARE/roots")" = 0:0 ]
    [ "$(stat -c %u:%g "$SHARE/given")" = 1000:10 ]
}

@test "what the host changes is seen by the rule of the cache" {
    mkdir "$TEST_DIR/auto" "$TEST_DIR/none"
    echo first >"$TEST_DIR/auto/file"
    echo first >"$TEST_DIR/none/file"
    start_talking_job --share "$TEST_DIR/auto:/auto" --share "$TEST_DIR/none:/none:cache=none" -- '
        cat /auto/file /none/file; ls /auto/new /none/new 2>/dev/null; stat -c %s /auto/file /none/file; echo seen
        read -r line
        cat /none/file; cat /none/new; stat -c %s /none/file
        sleep 1.5
        cat /auto/file; cat /auto/new; stat -c %s /auto/file'
    expect first
    expect first
    expect 6
    expect 6
    expect seen
    for dir in auto none; do
        echo "of another length" >"$TEST_DIR/$dir/file"
        echo made >"$TEST_DIR/$dir/new"
    done
    echo go >&6
    for dir in none auto; do
        expect "of another length"
        expect made
        expect 18
    done
    wait "$RUNNER"
}

@test "two shares, with spaces and letters of all kinds in their names" {
    local here="$TEST_DIR/two words: ü 漢" there="/srv/a b/ünï 漢字"
    mkdir "$here" "$TEST_DIR/lower"
    echo one >"$here/ein Name – with, 100% of ${SHARE:-it}"
    echo two >"$TEST_DIR/lower/file"
    run job --share "$here:$there" --share "$TEST_DIR/lower:/home/builder/lower:ro" -- sh -c '
        cd "$1" && cat * && echo back >"new
line 漢" && mkdir "dir x" && touch "dir x/$(printf "\\377")" && cat /home/builder/lower/file && ls /home/builder' \
        sh "$there"
    [ "$status" -eq 0 ]
    [ "$output" = $'one\ntwo\nlower' ]
    [ "$(cat "$here/new
line 漢")" = back ]
    [ -e "$here/dir x/"$'\377' ]
    nothing_left
}

@test "a share at a place that the image lacks, one within another, and one that hides" {
    mkdir -p "$TEST_DIR/outer/inner" "$TEST_DIR/inner" "$TEST_DIR/etc"
    echo outer >"$TEST_DIR/outer/file"
    echo inner >"$TEST_DIR/inner/file"
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$TEST_DIR/etc/passwd"
    look "$TEST_DIR/etc" >"$TEST_DIR/before"
    # In an order that is not the one to mount them in; and the agent writes nothing into an /etc.
    run job --share "$TEST_DIR/inner:/no/such/place/inner" --share "$TEST_DIR/outer:/no/such/place:ro" \
        --share "$TEST_DIR/etc:/etc" -- \
        sh -c 'cat /no/such/place/file /no/such/place/inner/file; echo x >/no/such/place/inner/new; ls /etc'
    [ "$status" -eq 0 ]
    [ "$output" = $'outer\ninner\npasswd' ]
    [ -f "$TEST_DIR/inner/new" ]
    [ ! -e "$TEST_DIR/outer/inner/new" ]
    look "$TEST_DIR/etc" | diff "$TEST_DIR/before" -
}

@test "a source that is missing ends it with 125, before anything starts" {
    run timeout 20 "$DAYFLY" run --engine "$ENGINE" --share "$TEST_DIR/gone:/s" tests -- true
    [ "$status" -eq 125 ]
    [ "$output" = "dayfly run: share $TEST_DIR/gone: there is no folder of that name" ]
    nothing_left
}

@test "links lead within the guest, not within the host" {
    make_share
    echo outside >"$TEST_DIR/outside"
    ln -s /etc/marker "$SHARE/absolute"
    ln -s ../outside "$SHARE/up"
    ln -s "$TEST_DIR/outside" "$SHARE/direct"
    run job --share "$SHARE:/s" -- sh -c '
        cat /s/absolute; cat /s/up; cat /s/direct; ls /s/..; cat /s/../outside; ls -a /s/. | sort | tr "\n" " "'
    [[ "$output" == *"from the image"* ]]
    [[ "$output" != *outside$'\n'outside* ]]
    ! grep -qx outside <<<"$output"
    [ "${lines[-1]}" = ". .. absolute direct up " ]
}

@test "many at once: eight writers, as a parallel build would" {
    make_share
    run job --cpus 2 --share "$SHARE:/s" -- sh -c '
        mkdir /s/src /s/obj && cd /s
        for i in $(seq 200); do echo "int f$i(void);" >src/$i.c; done
        ls src | xargs -P 8 -n 5 sh -c "for f; do
            cat src/\$f src/\$f >obj/\$f.tmp && mv obj/\$f.tmp obj/\${f%.c}.o && touch -r src/\$f obj/\${f%.c}.o || echo failed
        done" sh
        ls obj | wc -l
        for i in 1 2 3 4; do (for n in $(seq 50); do echo "$i $n" >>all; done) & done; wait
        sort -u all | wc -l
        rm -r src & rm -r obj/1* & wait; ls obj | wc -l; ls -a /s | grep -c src'
    echo "$output"
    [ "$status" -eq 1 ] # grep found no src
    [ "$output" = $'200\n200\n89\n0' ]
    [ "$(find "$SHARE/obj" -type f | wc -l)" -eq 89 ]
    [ "$(sort "$SHARE/all" | uniq | wc -l)" -eq 200 ]
    [ "$(cat "$SHARE/obj/200.o")" = $'int f200(void);\nint f200(void);' ]
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
