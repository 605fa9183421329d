#!/usr/bin/env bats
# Shared folders: who may do what, whose the files are, where they appear, and when a change is seen.

load common
load share

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

@test "ro,cache=always is read without being opened" {
    make_share
    mkdir "$SHARE/dir"
    for ((i = 0; i < 300; i++)); do echo "$i of $RANDOM" >"$SHARE/dir/file$i"; done
    (cd "$SHARE/dir" && md5sum file* && ls | sort) >"$TEST_DIR/wanted"
    run job --share "$SHARE:/s:ro,cache=always" -- sh -c '
        cd /s/dir; md5sum file*; ls | sort
        # Many at once; and no way to write, also by an open that nobody asks the host about.
        for i in 1 2 3 4; do cat file* | wc -l & done | uniq; wait
        mount -o remount,rw /s; echo x >>file0; true >file0; cat file0'
    tail -n +601 <<<"$output"
    [ "$status" -eq 0 ]
    diff <(head -n 600 <<<"$output") "$TEST_DIR/wanted"
    [ "${lines[600]}" -eq 300 ]
    [[ "${lines[-1]}" == "0 of "* ]]
    (cd "$SHARE/dir" && md5sum file* && ls | sort) | diff - "$TEST_DIR/wanted"
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
    echo "status $status: $output"
    [[ "$output" == *"from the image"* ]]
    [[ "$output" != *outside$'\n'outside* ]]
    ! grep -qx outside <<<"$output"
    [ "${lines[-1]}" = ". .. absolute direct up " ]
}
