# SPDX-License-Identifier: Apache-2.0
# What an image runs with, as podman has it: the same images from one registry, run by both where podman can
# run, and against what podman was seen to do where it cannot.

bats_require_minimum_version 1.5.0
load common
load images

setup() { images_setup_to_run docker-registry; }

# podman with all that it keeps in the test's folder, its locks as well: those in /dev/shm are the host's own
# podman's. Limits over the host's would fail.
podman_here() {
    [ -f "$TEST_DIR/containers.conf" ] || cat >"$TEST_DIR/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
CONF
    CONTAINERS_CONF=$TEST_DIR/containers.conf timeout -k 10 "$LIMIT" podman --root "$TEST_DIR/podman" --runroot "$TEST_DIR/podman-run" \
        --tmpdir "$TEST_DIR/podman-tmp" --storage-driver vfs --runtime runc "$@" 3>&-
}

podman_run() { # OPTION... IMAGE [ARG...]
    podman_here run --rm --quiet --network none --tls-verify=false "$@"
}

dayfly_run() { # the same
    mine run --engine "$ENGINE" --cpus 1 --memory 256MiB "$@"
}

# What differs by nature. podman sets the container's name, a mark of its own, and a terminal's type without
# there being one; a sandbox has the two names of the user that a login gives.
by_nature='^(HOSTNAME|container|TERM|USER|LOGNAME)='

system() {
    mkdir -p bin etc home/me tmp proc sys dev srv
    cp "$(command -v busybox)" bin/busybox
    for applet in sh id pwd env sort stat; do ln -s busybox bin/$applet; done
    printf 'root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n' >etc/passwd
    printf 'root:x:0:\nme:x:1000:\nextra:x:2000:me\nmore:x:3000:root,me\n' >etc/group
    cat >bin/probe <<'PROBE'
#!/bin/sh
for word; do echo "<$word>"; done
echo "$(id -u):$(id -g) $(id -G), $(umask), $(pwd) $(stat -c %u:%g:%a .)"
env | sort
exit "${STATUS:-0}"
PROBE
    chmod 755 bin/probe
    chown 1000:1000 home/me
}

# Images of all forms: shell and exec, with accounts and without, directories that are there and not.
make_images() {
    umoci_image "$LAYOUT" shell system
    umoci tag --image "$LAYOUT:shell" exec
    umoci tag --image "$LAYOUT:shell" numbers
    umoci config --image "$LAYOUT:shell" --config.cmd /bin/sh --config.cmd -c \
        --config.cmd 'probe "$GREETING" $((40 + 2)); exit 3' \
        --config.env 'GREETING=two  words, "quoted" = $HOME' --config.env EMPTY= --config.user me --config.workingdir /srv
    umoci config --image "$LAYOUT:exec" --config.entrypoint /bin/probe --config.entrypoint '--flag=a b' \
        --config.cmd from --config.cmd 'cmd *' --config.env STATUS=42 --config.env HOME=/elsewhere \
        --config.env PATH=/nowhere:/bin --config.user me:more --config.workingdir /made/on/the/way
    umoci config --image "$LAYOUT:numbers" --config.entrypoint probe --config.user 4321
    start_registry "$TEST_DIR/registry"
    for image in shell exec numbers; do
        skopeo copy -q --dest-tls-verify=false "oci:$LAYOUT:$image" "docker://$REGISTRY/$image"
        mine image pull -q --tls-verify=false "$REGISTRY/$image"
    done
}

# Run the image, with words in place of its command, by both, and compare with standard input: a status, and
# what was printed but for what differs by nature.
as_podman() { # IMAGE [ARG...]
    local image=$REGISTRY/$1 run status runs=(dayfly_run)
    shift
    cat >"$TEST_DIR/expected"
    if can_podman; then runs+=(podman_run); fi
    for run in "${runs[@]}"; do
        status=0
        "$run" "$image" "$@" >"$TEST_DIR/out" 2>"$TEST_DIR/err" || status=$?
        if ! { echo "$status" && grep -vE "$by_nature" "$TEST_DIR/out"; } | diff -u "$TEST_DIR/expected" -; then
            echo "that was $run of $image $*" && cat "$TEST_DIR/err"
            return 1
        fi
    done
}

# Can podman run anything here? The reason why not is printed, once.
can_podman() {
    local status=0
    if [ -z "${CAN_PODMAN:-}" ]; then
        CAN_PODMAN=no
        podman_run "$REGISTRY/exec" >/dev/null 2>"$TEST_DIR/podman.err" || status=$?
        if ! command -v podman >/dev/null || ! command -v runc >/dev/null; then
            echo "# podman and runc are not installed: compared with what podman did elsewhere" >&3
        elif [ "$status" -ne 42 ]; then
            echo "# podman runs nothing here: $(tail -n 1 "$TEST_DIR/podman.err")" >&3
        else
            CAN_PODMAN=yes
        fi
    fi
    [ "$CAN_PODMAN" = yes ]
}

@test "three images run as podman runs them" {
    make_images
    as_podman shell <<'EXPECTED'
3
<two  words, "quoted" = $HOME>
<42>
1000:1000 1000 2000 3000, 0022, /srv 0:0:755
EMPTY=
GREETING=two  words, "quoted" = $HOME
HOME=/home/me
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PWD=/srv
SHLVL=2
EXPECTED
    as_podman exec <<'EXPECTED'
42
<--flag=a b>
<from>
<cmd *>
1000:3000 3000, 0022, /made/on/the/way 1000:3000:755
HOME=/elsewhere
PATH=/nowhere:/bin
PWD=/made/on/the/way
SHLVL=1
STATUS=42
EXPECTED
    as_podman exec 'w  o' '' <<'EXPECTED'
42
<--flag=a b>
<w  o>
<>
1000:3000 3000, 0022, /made/on/the/way 1000:3000:755
HOME=/elsewhere
PATH=/nowhere:/bin
PWD=/made/on/the/way
SHLVL=1
STATUS=42
EXPECTED
    as_podman numbers <<'EXPECTED'
0
4321:0 0, 0022, / 0:0:755
HOME=/
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PWD=/
SHLVL=1
EXPECTED
}

@test "a command that is not there, or no program, ends as with podman" {
    long
    make_images
    as_podman shell /bin/nothing <<<127
    as_podman shell /etc/passwd <<<126
}

@test "podman runs what dayfly made" {
    needs podman runc
    make_images
    can_podman || skip "podman runs nothing here"
    mkdir "$TEST_DIR/tree"
    (cd "$TEST_DIR/tree" && system)
    # As mmdebstrap writes it: directories behind what is in them.
    (cd "$TEST_DIR/tree" && tar -cf "$TEST_DIR/tree.tar" bin/* && tar -rf "$TEST_DIR/tree.tar" --exclude './bin/*' .)
    mine image import made "$TEST_DIR/tree.tar"
    mine image push -q made "oci:$TEST_DIR/pushed:made"
    mine image push -q made "$REGISTRY/made" --tls-verify=false
    # podman names an image after its folder, which therefore must have no capitals.
    cd "$TEST_DIR"
    for image in oci:pushed:made "$REGISTRY/made"; do
        run -0 --separate-stderr podman_run --user me "$image" probe word
        [ "${lines[0]}" = "<word>" ]
        [[ ${lines[1]} == "1000:1000 1000 2000 3000, "* ]]
    done
}
