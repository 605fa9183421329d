# SPDX-License-Identifier: Apache-2.0
# What an image says of the command that it runs.

bats_require_minimum_version 1.5.0
load common
load images

setup() { images_setup_to_run; }

runnable() {
    mkdir -p bin etc home/me tmp proc sys dev
    cp "$(command -v busybox)" bin/busybox
    for applet in sh id pwd env cat test true echo; do ln -s busybox bin/$applet; done
    printf 'root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n' >etc/passwd
    printf 'root:x:0:\nme:x:1000:\nextra:x:2000:me\n' >etc/group
}

without_accounts() {
    runnable
    rm etc/passwd etc/group
}

run_mine() {
    timeout -k 10 "$LIMIT" env DAYFLY_HOME="$MINE" "$DAYFLY" run --engine "$ENGINE" --cpus 1 --memory 256MiB "$@"
}

@test "an image's entrypoint, command, environment and directory are honoured, and what the caller says goes first" {
    user_or_long
    umoci_image "$LAYOUT" image runnable
    umoci config --image "$LAYOUT:image" --config.entrypoint sh --config.entrypoint -c \
        --config.entrypoint 'echo "$0 $*"; pwd; echo "$A $B"; exit 7' \
        --config.cmd from --config.cmd cmd --config.env A=image --config.env B=image \
        --config.workingdir /made/on/the/way --config.label note=kept
    mine image pull -q "oci:$LAYOUT:image" --name image
    mine image inspect image | grep -q '"note": "kept"'

    run -7 --separate-stderr run_mine image
    [ "$output" = $'from cmd\n/made/on/the/way\nimage image' ]
    run -7 --separate-stderr run_mine --env A=mine --workdir /tmp image -- other
    [ "$output" = $'other \n/tmp\nmine image' ]
    run -0 --separate-stderr run_mine --entrypoint pwd image
    [ "$output" = /made/on/the/way ]
    run -0 --separate-stderr run_mine --entrypoint "" image -- echo word
    [ "$output" = word ]
}

@test "an image's user is honoured, by name and by number" {
    machine_only "there is one user"
    umoci_image "$LAYOUT" named runnable
    umoci config --image "$LAYOUT:named" --config.user me --config.cmd sh --config.cmd -c \
        --config.cmd 'id -u; id -g; id -G; echo $HOME; pwd'
    umoci_image "$LAYOUT" numeric without_accounts
    umoci config --image "$LAYOUT:numeric" --config.cmd sh --config.cmd -c --config.cmd 'id -u; id -g; pwd; echo $PATH' \
        --config.user 4321:1234
    mine image pull -q "oci:$LAYOUT:named" --name named
    mine image pull -q "oci:$LAYOUT:numeric" --name numeric

    run -0 --separate-stderr run_mine named
    [ "$output" = $'1000\n1000\n1000 2000\n/home/me\n/' ]
    run -0 --separate-stderr run_mine numeric
    [ "$output" = $'4321\n1234\n/\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' ]
}
