/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of the store: which names there are, what they keep alive, what goes when they go.
 *
 * index.json is an OCI image index. Fields and annotations that are not ours are kept as they are, so
 * that other tools may work on the layout. All its changes happen under the exclusive lock and by
 * rename.
 */
#include "image/store_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/json.h"
#include "util/nearest.h"

const char *store_root_name(const struct digest *manifest, char out[STORE_ROOT_NAME_BYTES])
{
    digest_hex(manifest, out);
    return strcat(out, ".erofs");
}

/* ---- reading and writing the file ---- */

/* The index, or a fresh one when there is none. A new reference, or NULL and *err. */
static json_t *index_load(struct store *store, struct dayfly_err *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    int rc = io_read_file(store->images_fd, "index.json", OCI_JSON_MAX_BYTES, &text, &len);
    if (rc == -ENOENT) {
        json_t *fresh =
            json_pack("{s:i, s:s, s:[]}", "schemaVersion", 2, "mediaType", OCI_TYPE_INDEX, "manifests");
        if (!fresh)
            err_errno(err, ENOMEM, "image index");
        return fresh;
    }
    if (rc) {
        err_errno(err, -rc, "cannot read %s/images/index.json", store->path);
        return NULL;
    }
    json_t *doc = oci_json_load(text, len, err);
    if (doc && !json_is_array(json_object_get(doc, "manifests"))) {
        json_decref(doc);
        doc = NULL;
        err_set(err, EINVAL, "no list of manifests");
    }
    if (!doc)
        err_wrap(err,
                 "%s/images/index.json is damaged; move it away and build or import the images "
                 "again",
                 store->path);
    return doc;
}

static int index_save(struct store *store, const json_t *index, struct dayfly_err *err)
{
    _cleanup_free_ char *text = json_dumps(index, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    if (!text)
        return err_errno(err, ENOMEM, "image index");
    struct store_file file = {0};
    /* Called with the lock: without O_TMPFILE store_file_begin would take it again. Our own lock is an
     * open file description's, so taking it again is no deadlock, but its unlock would end ours. */
    int rc = 0;
    char temp[] = "tmp-index";
    file.fd = openat(store->tmp_fd, temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (file.fd < 0)
        return err_errno(err, errno, "cannot create a file in %s/tmp", store->path);
    strcpy(file.name, temp);
    rc = io_write_full(file.fd, text, strlen(text));
    if (!rc)
        rc = io_write_full(file.fd, "\n", 1);
    if (!rc && fsync(file.fd) < 0)
        rc = -errno;
    if (rc)
        err_errno(err, -rc, "cannot write %s/images/index.json", store->path);
    else
        rc = store_file_commit(store, &file, store->images_fd, "index.json", err);
    store_file_discard(store, &file);
    return rc;
}

/* ---- entries ---- */

static bool entry_read(const json_t *object, struct store_entry *out)
{
    struct oci_descriptor d;
    struct oci_ref ref;
    const json_t *annotations = json_object_get(object, "annotations");
    const char *name = json_string_value(json_object_get(annotations, OCI_ANNOTATION_REF));
    const char *root = json_string_value(json_object_get(annotations, STORE_ANNOTATION_ROOT_DIGEST));
    const char *size = json_string_value(json_object_get(annotations, STORE_ANNOTATION_ROOT_SIZE));
    *out = (struct store_entry){0};
    if (!name || oci_ref_parse(name, &ref, NULL) || ref.by_digest ||
        oci_descriptor_parse(object, &d, NULL))
        return false;
    memcpy(out->name, ref.name, sizeof(out->name));
    out->manifest = d.digest;
    out->manifest_bytes = d.size;
    if (root && size && digest_parse(root, &out->root)) {
        char *end;
        errno = 0;
        out->root_bytes = strtoull(size, &end, 10);
        out->has_root = !errno && *size >= '0' && *size <= '9' && !*end;
    }
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct store_entry *)a)->name, ((const struct store_entry *)b)->name);
}

static int entries_of(const json_t *index, struct store_entry **out, size_t *count,
                      struct dayfly_err *err)
{
    const json_t *manifests = json_object_get(index, "manifests");
    size_t total = json_array_size(manifests), used = 0;
    struct store_entry *entries = calloc(total + 1, sizeof(*entries));
    if (!entries)
        return err_errno(err, ENOMEM, "image index");
    for (size_t i = 0; i < total; i++)
        used += entry_read(json_array_get(manifests, i), &entries[used]);
    qsort(entries, used, sizeof(*entries), by_name);
    *out = entries;
    *count = used;
    return 0;
}

int store_entries(struct store *store, struct store_entry **out, size_t *count, struct dayfly_err *err)
{
    _cleanup_json_ json_t *index = index_load(store, err);
    return index ? entries_of(index, out, count, err) : -(err ? err->code : EIO);
}

/* What to do where no name is near. */
#define LISTED "`dayfly image ls` lists them"

static int unknown(const struct oci_ref *ref, const struct store_entry *entries, size_t count,
                   const char *remedy, struct dayfly_err *err)
{
    char text[DIGEST_STR_BYTES];
    if (ref->by_digest)
        return err_set(err, ENOENT, "there is no image %s; " LISTED, digest_str(&ref->digest, text));
    /* People leave ":latest" out and never mistype it: compare without it. */
    char wanted[OCI_REF_BYTES], known[OCI_REF_BYTES], best[OCI_REF_BYTES] = "";
    const char *latest = ":latest";
    snprintf(wanted, sizeof(wanted), "%s", ref->name);
    size_t len = strlen(wanted);
    if (len > strlen(latest) && !strcmp(wanted + len - strlen(latest), latest))
        wanted[len - strlen(latest)] = '\0';
    struct nearest near = nearest_to(wanted);
    for (size_t i = 0; i < count; i++) {
        unsigned before = near.distance;
        snprintf(known, sizeof(known), "%s", entries[i].name);
        len = strlen(known);
        if (len > strlen(latest) && !strcmp(known + len - strlen(latest), latest))
            known[len - strlen(latest)] = '\0';
        nearest_offer(&near, known);
        if (near.distance != before)
            memcpy(best, known, sizeof(best));
    }
    if (best[0])
        return err_set(err, ENOENT, "there is no image \"%.80s\"; did you mean \"%.80s\"?", wanted,
                       best);
    return err_set(err, ENOENT, "there is no image \"%.80s\"; %s", wanted, remedy);
}

static int find(struct store *store, const struct oci_ref *ref, const char *remedy,
                struct store_entry *out, struct dayfly_err *err)
{
    _cleanup_free_ struct store_entry *entries = NULL;
    size_t count = 0;
    int rc = store_entries(store, &entries, &count, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < count; i++) {
        if (ref->by_digest ? digest_equal(&entries[i].manifest, &ref->digest)
                           : !strcmp(entries[i].name, ref->name)) {
            *out = entries[i];
            return 0;
        }
    }
    return unknown(ref, entries, count, remedy, err);
}

int store_find(struct store *store, const struct oci_ref *ref, struct store_entry *out,
               struct dayfly_err *err)
{
    return find(store, ref, LISTED, out, err);
}

int store_find_to_start(struct store *store, const struct oci_ref *ref, struct store_entry *out,
                        struct dayfly_err *err)
{
    return find(store, ref,
                "`dayfly image pull REF`, `dayfly image build --debian bookworm NAME` "
                "or `dayfly image import NAME DIR|TAR` gets one",
                out, err);
}

/* ---- changing ---- */

/* Take the entries of `name` out of the list. */
static void drop_name(json_t *manifests, const char *name)
{
    for (size_t i = json_array_size(manifests); i-- > 0;) {
        struct store_entry entry;
        if (entry_read(json_array_get(manifests, i), &entry) && !strcmp(entry.name, name))
            json_array_remove(manifests, i);
    }
}

static int set_root_annotations(json_t *descriptor, const struct store_file *root)
{
    char digest[DIGEST_STR_BYTES], size[24];
    json_t *annotations = json_object_get(descriptor, "annotations");
    snprintf(size, sizeof(size), "%llu", (unsigned long long)root->size);
    if (json_object_set_new(annotations, STORE_ANNOTATION_ROOT_DIGEST,
                            json_string(digest_str(&root->digest, digest))) ||
        json_object_set_new(annotations, STORE_ANNOTATION_ROOT_SIZE, json_string(size)))
        return -ENOMEM;
    return 0;
}

/* A new descriptor for the addition, or NULL. */
static json_t *addition_json(const struct store_addition *addition)
{
    json_t *d =
        oci_descriptor_json(OCI_TYPE_MANIFEST, &addition->manifest->digest, addition->manifest->size);
    json_t *platform = json_pack("{s:s, s:s}", "architecture", OCI_ARCHITECTURE, "os", "linux");
    json_t *annotations = json_pack("{s:s}", OCI_ANNOTATION_REF, addition->name);
    if (!d || json_object_set_new(d, "platform", platform) ||
        json_object_set_new(d, "annotations", annotations) || set_root_annotations(d, addition->root)) {
        json_decref(d);
        return NULL;
    }
    return d;
}

static int add_locked(struct store *store, const struct store_addition *addition,
                      struct dayfly_err *err)
{
    char hex[DIGEST_HEX_BYTES], root[STORE_ROOT_NAME_BYTES];
    _cleanup_json_ json_t *index = index_load(store, err);
    if (!index)
        return -(err ? err->code : EIO);
    json_t *manifests = json_object_get(index, "manifests");
    drop_name(manifests, addition->name);
    if (json_array_append_new(manifests, addition_json(addition)))
        return err_errno(err, ENOMEM, "image index");

    int rc = 0;
    for (size_t i = 0; !rc && i < addition->blob_count; i++) {
        struct store_file *blob = addition->blobs[i];
        rc = store_file_commit(store, blob, store->blobs_fd, digest_hex(&blob->digest, hex), err);
    }
    if (!rc)
        rc = store_file_commit(store, addition->manifest, store->blobs_fd,
                               digest_hex(&addition->manifest->digest, hex), err);
    if (!rc)
        rc = store_file_commit(store, addition->root, store->roots_fd,
                               store_root_name(&addition->manifest->digest, root), err);
    return rc ? rc : index_save(store, index, err);
}

int store_add(struct store *store, const struct store_addition *addition, struct dayfly_err *err)
{
    int rc = store_lock_exclusive(store, err);
    if (rc)
        return rc;
    rc = add_locked(store, addition, err);
    /* Sweep on failure too: a half-added image is just what it removes. */
    store_sweep(store);
    store_unlock(store);
    return rc;
}

static int add_root_locked(struct store *store, const struct digest *manifest, struct store_file *root,
                           struct dayfly_err *err)
{
    char name[STORE_ROOT_NAME_BYTES];
    _cleanup_json_ json_t *index = index_load(store, err);
    if (!index)
        return -(err ? err->code : EIO);
    json_t *entry_json;
    size_t i;
    bool found = false;
    json_array_foreach (json_object_get(index, "manifests"), i, entry_json) {
        struct store_entry entry;
        if (!entry_read(entry_json, &entry) || !digest_equal(&entry.manifest, manifest))
            continue;
        found = true;
        if (set_root_annotations(entry_json, root))
            return err_errno(err, ENOMEM, "image index");
    }
    if (!found)
        return err_set(err, ENOENT, "the image was removed meanwhile");
    int rc = store_file_commit(store, root, store->roots_fd, store_root_name(manifest, name), err);
    return rc ? rc : index_save(store, index, err);
}

int store_add_root(struct store *store, const struct digest *manifest, struct store_file *root,
                   struct dayfly_err *err)
{
    int rc = store_lock_exclusive(store, err);
    if (rc)
        return rc;
    rc = add_root_locked(store, manifest, root, err);
    store_unlock(store);
    return rc;
}

/* True when a sandbox holds the root file. */
static bool root_in_use(struct store *store, const char *name)
{
    _cleanup_close_ int fd = openat(store->roots_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}

bool store_root_in_use(struct store *store, const struct digest *manifest)
{
    char name[STORE_ROOT_NAME_BYTES];
    return root_in_use(store, store_root_name(manifest, name));
}

int store_drop_root(struct store *store, const struct digest *manifest, struct dayfly_err *err)
{
    char name[STORE_ROOT_NAME_BYTES];
    int rc = store_lock_exclusive(store, err);
    if (rc)
        return rc;
    store_root_name(manifest, name);
    if (root_in_use(store, name))
        rc = err_set(err, EBUSY, "the root file system is in use by a running sandbox");
    else if (unlinkat(store->roots_fd, name, 0) < 0 && errno != ENOENT)
        rc = err_errno(err, errno, "cannot remove the root file system");
    store_unlock(store);
    return rc;
}

static int tag_locked(struct store *store, const struct oci_ref *ref, const char *name,
                      struct dayfly_err *err)
{
    struct store_entry source;
    int rc = store_find(store, ref, &source, err);
    if (rc)
        return rc;
    _cleanup_json_ json_t *index = index_load(store, err);
    if (!index)
        return -(err ? err->code : EIO);
    json_t *manifests = json_object_get(index, "manifests"), *object;
    _cleanup_json_ json_t *copy = NULL;
    size_t i;
    json_array_foreach (manifests, i, object) {
        struct store_entry entry;
        if (!copy && entry_read(object, &entry) && !strcmp(entry.name, source.name))
            copy = json_deep_copy(object);
    }
    drop_name(manifests, name);
    if (!copy ||
        json_object_set_new(json_object_get(copy, "annotations"), OCI_ANNOTATION_REF,
                            json_string(name)) ||
        json_array_append(manifests, copy))
        return err_errno(err, ENOMEM, "image index");
    return index_save(store, index, err);
}

int store_tag(struct store *store, const struct oci_ref *ref, const char *name, struct dayfly_err *err)
{
    int rc = store_lock_exclusive(store, err);
    if (rc)
        return rc;
    rc = tag_locked(store, ref, name, err);
    if (!rc)
        store_sweep(store);
    store_unlock(store);
    return rc;
}

int store_forget(struct store *store, const struct digest *gone, size_t count, struct dayfly_err *err)
{
    _cleanup_json_ json_t *index = index_load(store, err);
    if (!index)
        return -(err ? err->code : EIO);
    json_t *manifests = json_object_get(index, "manifests");
    for (size_t i = json_array_size(manifests); i-- > 0;) {
        struct store_entry entry;
        if (!entry_read(json_array_get(manifests, i), &entry))
            continue;
        for (size_t g = 0; g < count; g++) {
            if (digest_equal(&entry.manifest, &gone[g])) {
                json_array_remove(manifests, i);
                break;
            }
        }
    }
    int rc = index_save(store, index, err);
    if (!rc)
        store_sweep(store);
    return rc;
}

static int remove_locked(struct store *store, const struct oci_ref *ref, struct dayfly_err *err)
{
    struct store_entry target;
    int rc = store_find(store, ref, &target, err);
    if (rc)
        return rc;
    _cleanup_json_ json_t *index = index_load(store, err);
    if (!index)
        return -(err ? err->code : EIO);
    json_t *manifests = json_object_get(index, "manifests");
    bool another_name = false;
    for (size_t i = json_array_size(manifests); i-- > 0;) {
        struct store_entry entry;
        if (!entry_read(json_array_get(manifests, i), &entry) ||
            !digest_equal(&entry.manifest, &target.manifest))
            continue;
        if (ref->by_digest || !strcmp(entry.name, target.name))
            json_array_remove(manifests, i);
        else
            another_name = true;
    }
    char root[STORE_ROOT_NAME_BYTES];
    if (!another_name && root_in_use(store, store_root_name(&target.manifest, root)))
        return err_set(err, EBUSY, "the image %.80s is in use by a running sandbox; stop it first",
                       target.name);
    return index_save(store, index, err);
}

int store_remove(struct store *store, const struct oci_ref *ref, struct dayfly_err *err)
{
    int rc = store_lock_exclusive(store, err);
    if (rc)
        return rc;
    rc = remove_locked(store, ref, err);
    if (!rc)
        store_sweep(store);
    store_unlock(store);
    return rc;
}

/* ---- sweeping ---- */

struct marks {
    const struct store_sweeping *how;
    struct store *store;
    struct digest *digests; /* every blob that the index leads to */
    size_t count, room;
    struct digest *manifests;
    size_t manifest_count;
};

static int mark(struct marks *marks, const struct digest *digest)
{
    if (marks->count == marks->room) {
        size_t room = marks->room ? 2 * marks->room : 64;
        struct digest *bigger = realloc(marks->digests, room * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        marks->digests = bigger;
        marks->room = room;
    }
    marks->digests[marks->count++] = *digest;
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct digest));
}

/* Follow every entry of the index, foreign ones too. Any doubt is an error: then nothing is removed. */
static int mark_all(struct marks *marks)
{
    _cleanup_json_ json_t *index = index_load(marks->store, NULL);
    if (!index)
        return -EIO;
    json_t *list = json_object_get(index, "manifests"), *entry;
    size_t i;
    marks->manifests = calloc(json_array_size(list) + 1, sizeof(*marks->manifests));
    if (!marks->manifests)
        return -ENOMEM;
    json_array_foreach (list, i, entry) {
        struct oci_descriptor d;
        struct oci_manifest manifest;
        _cleanup_free_ char *text = NULL;
        size_t len;
        int rc = oci_descriptor_parse(entry, &d, NULL);
        if (!rc)
            rc = store_blob_read(marks->store, &d.digest, &text, &len, NULL);
        if (!rc)
            rc = oci_manifest_parse(text, len, &manifest, NULL);
        if (rc)
            return rc;
        rc = mark(marks, &d.digest);
        if (!rc)
            rc = mark(marks, &manifest.config.digest);
        for (size_t layer = 0; !rc && layer < manifest.layer_count; layer++)
            rc = mark(marks, &manifest.layers[layer].digest);
        oci_manifest_finish(&manifest);
        if (rc)
            return rc;
        marks->manifests[marks->manifest_count++] = d.digest;
    }
    if (marks->count)
        qsort(marks->digests, marks->count, sizeof(*marks->digests), by_bytes);
    qsort(marks->manifests, marks->manifest_count, sizeof(*marks->manifests), by_bytes);
    return 0;
}

/* Names that are not a digest's are somebody else's, and stay. */
static bool name_to_digest(const char *name, const char *suffix, struct digest *out)
{
    char text[DIGEST_STR_BYTES];
    size_t hex = DIGEST_HEX_BYTES - 1;
    if (strlen(name) != hex + strlen(suffix) || strcmp(name + hex, suffix) != 0)
        return false;
    snprintf(text, sizeof(text), "sha256:%.*s", (int)hex, name);
    return digest_parse(text, out);
}

/* Remove a file of the store's that no name leads to. */
static void sweep_file(const struct marks *marks, int dir_fd, const char *dir, const char *name)
{
    const struct sweep *sweep = marks->how->sweep;
    int rc = sweep_removes(sweep) && unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
    sweep_tell(sweep, "file", rc, "%s/%s/sha256/%s", marks->store->path, dir, name);
}

static int sweep_blob(void *opaque, const char *name)
{
    struct marks *marks = opaque;
    struct digest digest;
    if (name_to_digest(name, "", &digest) &&
        !(marks->count && bsearch(&digest, marks->digests, marks->count, sizeof(digest), by_bytes)))
        sweep_file(marks, marks->store->blobs_fd, "images/blobs", name);
    return 0;
}

static int sweep_root(void *opaque, const char *name)
{
    struct marks *marks = opaque;
    struct digest digest;
    if (name_to_digest(name, ".erofs", &digest) &&
        !bsearch(&digest, marks->manifests, marks->manifest_count, sizeof(digest), by_bytes) &&
        !root_in_use(marks->store, name))
        sweep_file(marks, marks->store->roots_fd, "roots", name);
    return 0;
}

static void sweep_as(const struct store_sweeping *how)
{
    struct store *store = how->store;
    struct marks marks = {.how = how, .store = store};
    store_sweep_temps(how);
    /* A damaged image must not stop the command that would replace it. */
    if (mark_all(&marks) == 0) {
        store_each_name(store->blobs_fd, sweep_blob, &marks);
        store_each_name(store->roots_fd, sweep_root, &marks);
    }
    free(marks.digests);
    free(marks.manifests);
}

void store_sweep(struct store *store)
{
    sweep_as(&(struct store_sweeping){.store = store, .staging_age = STORE_STAGING_SECONDS});
}

void store_sweep_all(struct store *store, const struct sweep *sweep)
{
    sweep_as(&(struct store_sweeping){.store = store, .sweep = sweep});
}
