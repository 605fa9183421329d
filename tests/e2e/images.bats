# SPDX-License-Identifier: Apache-2.0
# Images from registries and other stores, with umoci, skopeo and Debian's docker-registry as peers.

bats_require_minimum_version 1.5.0
load common
load images

setup() { images_setup docker-registry python3; }

# ---- layers, as commands in a root file system ----

base() {
    mkdir -p bin etc/dir usr/lib var/mail gone/sub dir-to-file/sub opaque/sub
    echo base >etc/file
    echo "to be replaced" >file-to-dir
    echo x >dir-to-file/sub/x
    echo x >gone/sub/x
    echo lower >opaque/lower
    echo lower >opaque/sub/lower
    chmod 2775 var/mail
    chown 8:12 var/mail
    ln -s usr/lib lib
    ln -s /nowhere/at/all dangling
    ln etc/file etc/link-to-file
    # One byte less than may be: mkfs.erofs 1.5 cuts names.
    touch "$(printf 'n%.0s' $(seq 254))" "$(printf 'latin-\xfc\xff')" "umläut" $'new\nline'
    cp "$(command -v busybox)" bin/busybox
    chmod 4755 bin/busybox
    chown 1234:70000 etc/dir
    mkfifo -m 600 fifo
    mknod null c 1 3
    mknod disk b 7 300
    truncate -s 3M sparse
    echo end >>sparse
    touch -d '2001-02-03 04:05:06.123456789 UTC' etc/file etc/dir .
    python3 -c 'import os
os.setxattr("bin/busybox", "security.capability", bytes([1, 0, 0, 2, 0, 32] + [0] * 14))
os.setxattr("etc/file", "user.note", b"value\0with a NUL")
os.setxattr("etc/dir", "trusted.note", b"of a directory")'
}

change() {
    rm -r gone dir-to-file file-to-dir lib etc/link-to-file
    echo file >dir-to-file
    mkdir -p file-to-dir/with lib
    echo content >file-to-dir/with/in
    echo new >etc/new
    ln etc/new usr/lib/hard
    chmod 700 var/mail
    python3 -c 'import os; os.removexattr("etc/dir", "trusted.note")'
}

more() {
    rm etc/new dangling
    echo upper >etc/file
    mkdir gone
    mkfifo gone/fifo
}

# A layer that umoci would not write: an opaque directory, whiteouts behind what they must spare, a hard
# link into a lower layer, a whiteout of nothing.
add_raw_layer() { # LAYOUT:TAG
    local dir=$TEST_DIR/raw
    mkdir -p "$dir/opaque/sub" "$dir/usr/lib"
    echo upper >"$dir/opaque/upper"
    echo upper >"$dir/opaque/sub/upper"
    touch "$dir/opaque/.wh..wh..opq" "$dir/usr/.wh.never-was" "$dir/opaque/.wh.upper"
    tar -C "$dir" -c --format=pax --no-recursion -f "$dir.tar" opaque opaque/upper opaque/sub \
        opaque/sub/upper opaque/.wh..wh..opq opaque/.wh.upper usr usr/.wh.never-was
    umoci raw add-layer --image "$1" "$dir.tar"
}

# ---- the tree ----

@test "layers give the tree that umoci unpacks, from gzip, zstd and tar that is called gzip" {
    umoci_image "$LAYOUT" gzip base change more
    add_raw_layer "$LAYOUT:gzip"
    mine image pull -q "oci:$LAYOUT:gzip" --name tree:gzip
    # umoci takes opaque/sub/lower away behind the entry of opaque/sub, and leaves it the time of that.
    same_as_umoci tree:gzip "$LAYOUT:gzip" --untimed opaque/sub

    # The same content, compressed otherwise.
    start_registry "$TEST_DIR/registry"
    skopeo copy -q --dest-tls-verify=false --dest-compress-format zstd "oci:$LAYOUT:gzip" \
        "docker://$REGISTRY/tree:zstd"
    mine image pull -q --tls-verify=false "$REGISTRY/tree:zstd" --name tree:zstd
    mine image inspect tree:zstd | grep -q 'tar+zstd'
    same_as_umoci tree:zstd "$LAYOUT:gzip" --untimed opaque/sub
    skopeo copy -q "oci:$LAYOUT:gzip" "docker-archive:$TEST_DIR/docker.tar:tree:docker"
    mine image pull -q "docker-archive:$TEST_DIR/docker.tar:tree:docker"
    same_as_umoci tree:docker "$LAYOUT:gzip" --untimed opaque/sub
    # skopeo then leaves layers plain and calls them gzip all the same.
    skopeo copy -q --dest-oci-accept-uncompressed-layers "docker-archive:$TEST_DIR/docker.tar" "oci:$TEST_DIR/plain:x"
    mine image pull -q "oci:$TEST_DIR/plain:x" --name tree:plain
    same_as_umoci tree:plain "$LAYOUT:gzip" --untimed opaque/sub
    run -0 mine image verify
}

# Layers that name files by way of links that a layer below has, as builders write them on a merged /usr.
add_linked_layers() { # LAYOUT:TAG
    local dir=$TEST_DIR/linked
    mkdir -p "$dir/1/usr/lib/sub" "$dir/1/opt" "$dir/2/lib/made" "$dir/2/up/lib" "$dir/2/opt/abs" "$dir/2/door/deeper" "$dir/3/lib/sub"
    ln -s usr/lib "$dir/1/lib"
    ln -s ../../../usr "$dir/1/up"
    ln -s /lib/sub "$dir/1/opt/abs"
    ln -s /not/there "$dir/1/door"
    for file in old gone kept sub/old; do echo lower >"$dir/1/usr/lib/$file"; done
    tar -C "$dir/1" -c --format=pax --no-recursion -f "$dir/1.tar" usr usr/lib usr/lib/old usr/lib/gone \
        usr/lib/kept usr/lib/sub usr/lib/sub/old opt lib up opt/abs door
    for file in lib/old lib/made/x up/lib/y opt/abs/z door/deeper/w; do echo "$file" >"$dir/2/$file"; done
    touch "$dir/2/lib/.wh.gone" "$dir/2/up/lib/.wh.old"
    # Hard links in an archive name what they were made from: leave both names behind the link.
    ln "$dir/2/lib/old" "$dir/2/lib/hard"
    tar -C "$dir/2" -c --format=pax --no-recursion -f "$dir/2.tar" lib/old lib/hard lib/made lib/made/x \
        up/lib/y up/lib/.wh.old opt/abs/z lib/.wh.gone door/deeper/w
    echo upper >"$dir/3/lib/sub/upper"
    touch "$dir/3/lib/sub/.wh..wh..opq" "$dir/3/lib/.wh.kept"
    tar -C "$dir/3" -c --format=pax --no-recursion -f "$dir/3.tar" lib/sub/upper lib/sub/.wh..wh..opq lib/.wh.kept
    for layer in 1 2 3; do umoci raw add-layer --image "$1" "$dir/$layer.tar"; done
}

@test "names behind links of lower layers are where umoci has them" {
    umoci_image "$LAYOUT" linked
    add_linked_layers "$LAYOUT:linked"
    mine image pull -q "oci:$LAYOUT:linked" --name linked
    # Of what no layer mentions umoci leaves the time of unpacking.
    same_as_umoci linked "$LAYOUT:linked" --untimed . --untimed not --untimed not/there --untimed not/there/deeper
    mkdir "$TEST_DIR/mnt"
    unshare -m sh -ec 'mount -t erofs -o loop,ro "$1" "$2"; cd "$2"
        test -L lib && grep -qx lib/old usr/lib/old && test usr/lib/old -ef usr/lib/hard &&
        grep -qx up/lib/y usr/lib/y && grep -qx upper usr/lib/sub/upper && grep -qx door/deeper/w not/there/deeper/w &&
        ! test -e usr/lib/gone && ! test -e usr/lib/kept && ! test -e usr/lib/sub/old && ! test -e usr/lib/sub/z' \
        sh "$(root_of linked)" "$TEST_DIR/mnt"
}

@test "a link out of the image leads within it" {
    umoci_image "$LAYOUT" evil
    mkdir "$TEST_DIR/x" "$TEST_DIR/outside"
    ln -s "$TEST_DIR/outside" "$TEST_DIR/x/door"
    tar -C "$TEST_DIR/x" -cf "$TEST_DIR/door.tar" door
    rm "$TEST_DIR/x/door"
    mkdir "$TEST_DIR/x/door"
    echo inside >"$TEST_DIR/x/door/file"
    tar -C "$TEST_DIR/x" -cf "$TEST_DIR/through.tar" door/file
    umoci raw add-layer --image "$LAYOUT:evil" "$TEST_DIR/door.tar"
    umoci raw add-layer --image "$LAYOUT:evil" "$TEST_DIR/through.tar"
    mine image pull -q "oci:$LAYOUT:evil" --name evil
    [ -z "$(ls "$TEST_DIR/outside")" ]
    mkdir "$TEST_DIR/mnt"
    unshare -m sh -ec 'mount -t erofs -o loop,ro "$1" "$2"; grep -qx inside "$2$3/file"' \
        sh "$(root_of evil)" "$TEST_DIR/mnt" "$TEST_DIR/outside"
}

@test "an image for nobody is refused with the layer and the entry" {
    umoci_image "$LAYOUT" evil
    mkdir -p "$TEST_DIR/x"
    echo file >"$TEST_DIR/x/door"
    tar -C "$TEST_DIR/x" -cf "$TEST_DIR/door.tar" door
    rm "$TEST_DIR/x/door"
    mkdir "$TEST_DIR/x/door"
    echo hostile >"$TEST_DIR/x/door/passwd"
    tar -C "$TEST_DIR/x" -cf "$TEST_DIR/through.tar" door/passwd
    umoci raw add-layer --image "$LAYOUT:evil" "$TEST_DIR/door.tar"
    umoci raw add-layer --image "$LAYOUT:evil" "$TEST_DIR/through.tar"
    run -125 mine image pull -q "oci:$LAYOUT:evil"
    [[ $output == *"layer 2 of 2"*'"door/passwd" is behind "door", which is a file'* ]]
    # What it is called does not reach the terminal as it is.
    touch "$TEST_DIR/x/"$'\e[2J'
    tar -C "$TEST_DIR/x" -cf "$TEST_DIR/escape.tar" --transform 's,^,door/,' $'\e[2J'
    umoci_image "$LAYOUT" escape
    umoci raw add-layer --image "$LAYOUT:escape" "$TEST_DIR/door.tar"
    umoci raw add-layer --image "$LAYOUT:escape" "$TEST_DIR/escape.tar"
    run -125 mine image pull -q "oci:$LAYOUT:escape"
    [[ $output == *'"door/?[2J" is behind "door"'* ]]
    [ "$(mine image ls --json)" = "[]" ]
}

# ---- registries ----

@test "push and pull keep the digest, and a layer is stored once" {
    umoci_image "$LAYOUT" one base change
    start_registry "$TEST_DIR/registry"
    digest=$(layout_digest "$LAYOUT" one)
    [ "$(mine image pull -q "oci:$LAYOUT:one" --name one)" = "$digest" ]
    [ "$(mine image push -q one "$REGISTRY/team/one:1.0" --tls-verify=false)" = "$digest" ]
    [ "$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$REGISTRY/team/one:1.0")" = "$digest" ]
    blobs=$(find "$MINE/images/blobs" -type f | sort)
    # Nothing is fetched again, and the new name is one more for the same.
    run -0 --separate-stderr mine image pull --tls-verify=false "$REGISTRY/team/one:1.0"
    [ "$output" = "$digest" ]
    [[ $stderr == *"up to date"* ]]
    [ "$(find "$MINE/images/blobs" -type f | sort)" = "$blobs" ]
    [ "$(find "$MINE/roots" -type f | wc -l)" -eq 1 ]
    mine image ls | grep -q "^$REGISTRY/team/one:1.0 "
    # From nothing, all of it comes, the same.
    [ "$(MINE=$TEST_DIR/other mine image pull -q --tls-verify=false "$REGISTRY/team/one:1.0")" = "$digest" ]
    diff <(cd "$MINE/images/blobs/sha256" && sha256sum *) <(cd "$TEST_DIR/other/images/blobs/sha256" && sha256sum *)
    [ -z "$(ls "$MINE/tmp")" ]
}

# Docker's format knows no zstd, which the layers of an import have.
@test "what was made here goes out in Docker's format, and comes back the same" {
    mkdir "$TEST_DIR/tree"
    (cd "$TEST_DIR/tree" && base)
    mine image import made "$TEST_DIR/tree"
    mine image inspect made | grep -q 'tar+zstd'
    mine image push made "docker-archive:$TEST_DIR/docker.tar:made:docker"
    mine image pull -q "docker-archive:$TEST_DIR/docker.tar:made:docker"
    unshare -m sh -ec 'mkdir "$3/a" "$3/b"
        mount -t erofs -o loop,ro "$1" "$3/a"; mount -t erofs -o loop,ro "$2" "$3/b"; tests/e2e/compare-trees "$3/a" "$3/b"' \
        sh "$(root_of made)" "$(root_of made:docker)" "$TEST_DIR"
    [ -z "$(ls "$MINE/tmp")" ]
}

@test "an ordinary user pulls what is there already" {
    as_nobody() {
        setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$TEST_DIR/nobody" \
            REGISTRY_AUTH_FILE="$TEST_DIR/nobody/auth.json" DAYFLY_HOME="$TEST_DIR/nobody/home" "$@"
    }
    as_nobody test -x "$DAYFLY" || skip "$DAYFLY is for others to look at, not to run"
    umoci_image "$LAYOUT" one more_for_arm
    start_registry "$TEST_DIR/registry"
    skopeo copy -q --dest-tls-verify=false "oci:$LAYOUT:one" "docker://$REGISTRY/one"
    mkdir "$TEST_DIR/nobody"
    chown 65534 "$TEST_DIR/nobody"
    chmod -R a+rX "$TEST_DIR"
    digest=$(as_nobody "$DAYFLY" image pull -q "oci:$LAYOUT:one" --name one)
    run -0 --separate-stderr as_nobody "$DAYFLY" image pull --tls-verify=false "$REGISTRY/one"
    [ "$output" = "$digest" ]
    [[ $stderr == *"up to date"* ]]
    run -0 as_nobody "$DAYFLY" image verify
}

@test "a list of several platforms gives this machine's, without mediaType as well" {
    umoci_image "$LAYOUT" amd64 base
    umoci_image "$LAYOUT" arm64 more_for_arm
    umoci config --image "$LAYOUT:arm64" --architecture arm64
    amd64=$(layout_digest "$LAYOUT" amd64) arm64=$(layout_digest "$LAYOUT" arm64)
    size() { stat -c %s "$(blob "$LAYOUT" "$1")"; }
    entry() { # DIGEST ARCHITECTURE
        printf '{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%s,"platform":{"os":"linux","architecture":"%s"}}' \
            "$1" "$(size "$1")" "$2"
    }
    both=$(printf '{"schemaVersion":2,"manifests":[%s,%s]}' "$(entry "$arm64" arm64)" "$(entry "$amd64" amd64)" | put_blob "$LAYOUT")
    arm=$(printf '{"schemaVersion":2,"manifests":[%s]}' "$(entry "$arm64" arm64)" | put_blob "$LAYOUT")
    top() { # TAG DIGEST
        printf '{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}' \
            "$2" "$(size "$2")" "$1"
    }
    printf '{"schemaVersion":2,"manifests":[%s,%s,%s]}' "$(top both "$both")" "$(top arm "$arm")" \
        "$(entry "$arm64" arm64 | sed 's/,"platform.*/,"annotations":{"org.opencontainers.image.ref.name":"alone"}}/')" \
        >"$LAYOUT/index.json"
    # umoci's manifests have none of their own, and these indexes neither.
    run -1 grep -c '^{[^{]*"mediaType"' "$(blob "$LAYOUT" "$amd64")"
    start_registry "$TEST_DIR/registry"
    skopeo copy -q --all --dest-tls-verify=false "oci:$LAYOUT:both" "docker://$REGISTRY/both"
    [ "$(mine image pull -q "oci:$LAYOUT:both" --name both)" = "$amd64" ]
    [ "$(MINE=$TEST_DIR/other mine image pull -q --tls-verify=false "$REGISTRY/both")" = "$amd64" ]
    run -125 mine image pull -q "oci:$LAYOUT:arm" --name arm
    [[ $output == *"other processors than amd64"* ]]
    run -125 mine image pull -q "oci:$LAYOUT:alone" --name alone
    [[ $output == *"is for arm64; this machine runs amd64"* ]]
}

more_for_arm() {
    echo arm >file
}

@test "credentials and certificates are asked for and used" {
    needs openssl
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$TEST_DIR/key" -out "$TEST_DIR/ca.crt" -days 2 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
    # user, secret
    # shellcheck disable=SC2016
    echo 'user:$2b$04$aSApeGIGnDfxGU.5H2uT1emO52oH8DHtT0FeLcQfHenQcUSbV3k5S' >"$TEST_DIR/htpasswd"
    start_registry "$TEST_DIR/registry" \
        "  tls: {certificate: $TEST_DIR/ca.crt, key: $TEST_DIR/key}" \
        "auth: {htpasswd: {realm: test, path: $TEST_DIR/htpasswd}}"
    mkdir "$TEST_DIR/certs"
    cp "$TEST_DIR/ca.crt" "$TEST_DIR/certs/"
    umoci_image "$LAYOUT" one more_for_arm
    mine image pull -q "oci:$LAYOUT:one" --name one
    run -125 mine image push -q one "$REGISTRY/one"
    [[ $output == *"x509"*"--cert-dir"* ]]
    run -125 mine image push -q one "$REGISTRY/one" --cert-dir "$TEST_DIR/certs"
    [[ $output == *"--creds"* ]]
    run -125 mine image push -q one "$REGISTRY/one" --cert-dir "$TEST_DIR/certs" --creds user:wrong
    [[ $output == *"--creds"* ]]
    mine image push -q one "$REGISTRY/one" --cert-dir "$TEST_DIR/certs" --creds user:secret
    skopeo login --authfile "$TEST_DIR/auth.json" --cert-dir "$TEST_DIR/certs" -u user -p secret "$REGISTRY"
    MINE=$TEST_DIR/other mine image pull -q "$REGISTRY/one" --cert-dir "$TEST_DIR/certs" --authfile "$TEST_DIR/auth.json"
    MINE=$TEST_DIR/other mine image pull -q "$REGISTRY/one" --tls-verify=false --creds user:secret
}

@test "what cannot be fetched is said with a remedy, and the old image stays" {
    umoci_image "$LAYOUT" one base
    mine image pull -q "oci:$LAYOUT:one" --name one
    before=$(mine image ls --json)
    start_registry "$TEST_DIR/registry"
    run -125 mine image pull -q "$REGISTRY/one" --name one
    [[ $output == *"cannot pull $REGISTRY/one"*"--tls-verify=false"* ]]
    run -125 mine image pull -q --tls-verify=false "$REGISTRY/one" --name one
    [[ $output == *"manifest unknown"*"name and tag"* ]]
    stop_registries
    run -125 mine image pull -q --tls-verify=false "$REGISTRY/one" --name one
    [[ $output == *"connection refused"* ]]
    run -125 mine image pull -q "oci:$LAYOUT:two" --name one
    run -125 mine image pull -q "dir:$TEST_DIR/nothing"
    [[ $output == *"--name"* ]]
    run -125 mine image pull -q --creds
    run -125 mine image pull -q -- --insecure-policy
    [[ $output == *"no place of an image"* ]]
    run -125 mine image push -q two "oci:$TEST_DIR/out"
    [[ $output == *"no image \"two\""* ]]
    [ "$(mine image ls --json)" = "$before" ]
    [ -z "$(ls "$MINE/tmp")" ]
}

# ---- a registry that breaks ----

# The image "three": layers of one file each, the last one the largest.
three_layers() {
    umoci_image "$LAYOUT" three one_file one_file large_file
    mapfile -t LAYERS < <(python3 -c 'import json, sys
for layer in json.load(open(sys.argv[1]))["layers"]: print(layer["digest"])' \
        "$(blob "$LAYOUT" "$(layout_digest "$LAYOUT" three)")")
    start_broken_registry "$LAYOUT"
}

one_file() { echo $RANDOM$RANDOM >"file-$RANDOM$RANDOM"; }
large_file() { head -c 3M /dev/urandom >large; }

# How often was the blob asked for?
asked() { # DIGEST
    grep -c "GET .*/blobs/$1 " "$TEST_DIR/requests" || true
}

@test "a pull that is broken off in the middle tries again, for the rest alone" {
    three_layers
    # When the two others are there.
    echo "cut ${LAYERS[2]} 1 2 $MINE/tmp/pull-*/blobs/sha256/*" >"$TEST_DIR/faults"
    run -0 --separate-stderr mine image pull --tls-verify=false "$REGISTRY/x:three" --name three
    [[ $stderr == *"unexpected EOF"*"trying again"* ]]
    [ "$output" = "$(layout_digest "$LAYOUT" three)" ]
    [ "$(asked "${LAYERS[0]}") $(asked "${LAYERS[1]}") $(asked "${LAYERS[2]}")" = "1 1 2" ]
    run -0 mine image verify
    [ -z "$(ls "$MINE/tmp")" ]
}

@test "a registry that always breaks off gets no half image in, and the next pull goes on" {
    three_layers
    echo "cut ${LAYERS[2]} 1000 2 $MINE/tmp/pull-*/blobs/sha256/*" >"$TEST_DIR/faults"
    run -125 mine image pull -q --tls-verify=false "$REGISTRY/x:three" --name three
    [[ $output == *"cannot pull $REGISTRY/x:three: unexpected EOF"*"another pull goes on behind the last whole layer" ]]
    [ "$(mine image ls --json)" = "[]" ]
    [ -z "$(find "$MINE/images/blobs" "$MINE/roots" -type f)" ]
    # Nothing of the one that broke off, whole or half, under its name.
    kept=$(ls "$MINE"/tmp/pull-*/blobs/sha256)
    [[ $kept == *"${LAYERS[0]#sha256:}"* && $kept == *"${LAYERS[1]#sha256:}"* && $kept != *"${LAYERS[2]#sha256:}"* ]]
    run -0 --separate-stderr mine image ls
    [ -z "$stderr" ]
    : >"$TEST_DIR/faults"
    : >"$TEST_DIR/requests"
    run -0 --separate-stderr mine image pull --tls-verify=false "$REGISTRY/x:three" --name three
    [[ $stderr == *"going on behind "*" MiB that an earlier pull has fetched"* ]]
    [ "$(asked "${LAYERS[0]}") $(asked "${LAYERS[1]}") $(asked "${LAYERS[2]}")" = "0 0 1" ]
    # And of an image that shares them nothing but what is its own.
    umoci tag --image "$LAYOUT:three" four
    umoci_layers "$LAYOUT:four" one_file
    : >"$TEST_DIR/requests"
    mine image pull -q --tls-verify=false "$REGISTRY/x:four" --name four
    [ "$(asked "${LAYERS[0]}") $(asked "${LAYERS[1]}") $(asked "${LAYERS[2]}")" = "0 0 0" ]
    run -0 mine image verify
    [ -z "$(ls "$MINE/tmp")" ]
}

@test "a registry that alters a layer is found out" {
    three_layers
    echo "alter ${LAYERS[2]}" >"$TEST_DIR/faults"
    run -125 mine image pull -q --tls-verify=false "$REGISTRY/x:three" --name three
    [[ $output == *"igest did not match"*"the registry is broken"* ]]
    [ "$(asked "${LAYERS[2]}")" -eq 1 ]
    [ "$(mine image ls --json)" = "[]" ]
    run -0 mine image prune
    [ -z "$(ls "$MINE/tmp")" ]
    : >"$TEST_DIR/faults"
    mine image pull -q --tls-verify=false "$REGISTRY/x:three" --name three
    run -0 mine image verify
}

# ---- wrong digests ----

@test "a blob with a wrong digest never gets in, and what was whole is kept for the next pull" {
    umoci_image "$LAYOUT" one base change
    start_registry "$TEST_DIR/registry"
    skopeo copy -q --dest-tls-verify=false "oci:$LAYOUT:one" "docker://$REGISTRY/one"
    layer=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["layers"][1]["digest"])' \
        "$(blob "$LAYOUT" "$(layout_digest "$LAYOUT" one)")")
    hex=${layer#sha256:}
    data=$TEST_DIR/registry/data/docker/registry/v2/blobs/sha256/${hex:0:2}/$hex/data
    cp "$data" "$TEST_DIR/whole"
    printf XXXX | dd of="$data" bs=1 seek=40 conv=notrunc status=none
    run -125 mine image pull -q --tls-verify=false "$REGISTRY/one"
    [[ $output == *"igest did not match"*"the registry is broken"* ]]
    [ "$(mine image ls --json)" = "[]" ]
    [ -z "$(ls "$MINE/images/blobs/sha256")" ]
    # The first layer, or the config, came whole.
    kept=$(ls "$MINE"/tmp/pull-*/blobs/sha256)
    [ -n "$kept" ]
    [[ $kept != *"$hex"* ]]
    cp "$TEST_DIR/whole" "$data"
    mine image pull -q --tls-verify=false "$REGISTRY/one"
    [ -z "$(ls "$MINE/tmp")" ]
    run -0 mine image verify
}

@test "a layer that unpacks to something else than its config says is refused" {
    umoci_image "$LAYOUT" one base
    manifest=$(blob "$LAYOUT" "$(layout_digest "$LAYOUT" one)")
    python3 - "$LAYOUT" "$manifest" <<'PYTHON'
import hashlib, json, sys
layout, path = sys.argv[1:]
def put(document):
    text = json.dumps(document).encode()
    digest = hashlib.sha256(text).hexdigest()
    open(f"{layout}/blobs/sha256/{digest}", "wb").write(text)
    return {"digest": "sha256:" + digest, "size": len(text)}
manifest = json.load(open(path))
config = json.load(open(layout + "/blobs/" + manifest["config"]["digest"].replace(":", "/")))
config["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]
manifest["config"].update(put(config))
index = json.load(open(layout + "/index.json"))
index["manifests"][0].update(put(manifest))
json.dump(index, open(layout + "/index.json", "w"))
PYTHON
    run -125 mine image pull -q "oci:$LAYOUT:one"
    [[ $output == *"layer 1 of 1"*"does not unpack to sha256:0000"* ]]
    [ "$(mine image ls --json)" = "[]" ]
}

@test "damage in the store is found by verify and repaired by the next pull" {
    umoci_image "$LAYOUT" one base change
    mine image pull -q "oci:$LAYOUT:one" --name one
    run -0 mine image verify one
    [ "$output" = "one:latest: ok" ]
    hurt() {
        chmod 644 "$1"
        printf XXXX | dd of="$1" bs=1 seek=1500 conv=notrunc status=none
    }
    hurt "$MINE"/roots/sha256/*.erofs
    run -125 mine image verify
    [[ $output == *"one:latest: its root file system was damaged and has been removed"* ]]
    run -0 mine image verify
    largest=$(ls -S "$MINE/images/blobs/sha256" | head -n 1)
    hurt "$MINE/images/blobs/sha256/$largest"
    run -125 mine image verify
    [[ $output == *"one:latest: layer 1, sha256:"*"is damaged"* ]]
    mine image pull "oci:$LAYOUT:one" --name one
    run -0 mine image verify
}

# ---- broken off ----

random() {
    for i in 1 2 3 4; do head -c 8M /dev/urandom >"random-$i"; done
}

@test "a pull that is killed leaves nothing but what the next one goes on with" {
    long # images-kill.bats kills at every step
    umoci_image "$LAYOUT" big base random random random
    start_registry "$TEST_DIR/registry"
    skopeo copy -q --dest-tls-verify=false "oci:$LAYOUT:big" "docker://$REGISTRY/big"
    mine image pull -q "oci:$LAYOUT:big" --name old
    mine image prune --keep-size 0
    for round in 1 2 3 4; do
        DAYFLY_HOME=$MINE "$DAYFLY" image pull -q --tls-verify=false "$REGISTRY/big" 3>&- &
        pid=$!
        # Until it has begun to fetch: wherever it is then.
        while [ -d /proc/$pid ] && ! ls "$MINE"/tmp/pull-*/layout/oci-put-blob* >/dev/null 2>&1; do :; done
        kill -9 $pid 2>/dev/null || true
        wait $pid || true
        [ "$(mine image ls --json)" = "[]" ] || break
        [ -z "$(ls "$MINE/images/blobs/sha256")" ]
        # Its skopeo dies with it; that may take a moment.
        for pid in $(marked); do timeout 10 tail --pid="$pid" -f /dev/null; done
    done
    mine image pull -q --tls-verify=false "$REGISTRY/big"
    run -0 mine image verify
    [ "$(mine image ls --json | grep -c '"name"')" -eq 1 ]
    [ -z "$(ls "$MINE/tmp")" ]
}

@test "two pulls of one image at once wait for each other" {
    umoci_image "$LAYOUT" one base random
    start_registry "$TEST_DIR/registry"
    skopeo copy -q --dest-tls-verify=false "oci:$LAYOUT:one" "docker://$REGISTRY/one"
    pids=()
    for name in a b c; do
        DAYFLY_HOME=$MINE "$DAYFLY" image pull -q --tls-verify=false "$REGISTRY/one" --name $name 3>&- &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
    [ "$(mine image ls --json | grep -c '"name"')" -eq 3 ]
    run -0 mine image verify
    [ -z "$(ls "$MINE/tmp")" ]
}

# ---- keeping ----

@test "tag, sizes and prune" {
    umoci_image "$LAYOUT" lower base random
    umoci tag --image "$LAYOUT:lower" upper
    bundle=$TEST_DIR/upper
    umoci unpack --image "$LAYOUT:upper" "$bundle" >/dev/null
    echo upper >"$bundle/rootfs/upper"
    umoci repack --image "$LAYOUT:upper" "$bundle" >/dev/null
    mine image pull -q "oci:$LAYOUT:lower" --name lower
    mine image pull -q "oci:$LAYOUT:upper" --name upper
    bytes() { mine image ls --json | python3 -c "import json, sys
print([i['$2'] for i in json.load(sys.stdin) if i['name'] == '$1:latest'][0])"; }
    # Layers of 32 MiB are shared, a root file system of that size is each one's own.
    [ "$(bytes lower shared_bytes)" -gt 33000000 ]
    [ "$(bytes upper own_bytes)" -gt 33000000 ]
    mine image tag upper again
    [ "$(bytes again own_bytes)" -eq 0 ]
    [ "$(bytes upper own_bytes)" -eq 0 ]
    run -125 mine image tag nothing name
    [[ $output == *'no image "nothing"'* ]]
    run -125 mine image tag upper "sha256:$(printf '0%.0s' $(seq 64))"

    # The one that was used last stays.
    touch -a -d '10 days ago' "$MINE"/roots/sha256/*
    touch -m -d '10 days ago' "$MINE"/images/blobs/sha256/*
    lower=$(root_of lower)
    touch -a "$lower"
    run -0 --separate-stderr mine image prune --older-than 5d --dry-run
    [[ $output == again:latest$'\t'* ]]
    [ "$(mine image ls --json | grep -c '"name"')" -eq 3 ]
    run -0 --separate-stderr mine image prune --older-than 11d
    [ -z "$output" ]
    run -0 --separate-stderr mine image prune --older-than 5d
    [ "${#lines[@]}" -eq 1 ]
    [ "$(mine image ls --json | grep -c '"name"')" -eq 1 ]
    run -0 mine image verify lower
    run -0 mine image prune --keep-size 1GiB
    [ "$(mine image ls --json | grep -c '"name"')" -eq 1 ]
    run -0 mine image prune --keep-size 1MiB
    [ "$(mine image ls --json)" = "[]" ]
    [ -z "$(find "$MINE/images/blobs" "$MINE/roots" -type f)" ]
}
