# What the tests of shared folders have in common: load it by `load share`, behind `load common`.

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
