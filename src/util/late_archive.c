/* SPDX-License-Identifier: Apache-2.0 */
/* See late.h: the functions of libarchive that we call. */
#include "util/late.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "util/arith.h"

/* clang-format off */
#define FUNCTIONS(X) \
    X(archive_entry_clone) \
    X(archive_entry_copy_gname) \
    X(archive_entry_copy_hardlink) \
    X(archive_entry_copy_pathname) \
    X(archive_entry_copy_sourcepath) \
    X(archive_entry_copy_uname) \
    X(archive_entry_filetype) \
    X(archive_entry_free) \
    X(archive_entry_hardlink) \
    X(archive_entry_linkify) \
    X(archive_entry_linkresolver_free) \
    X(archive_entry_linkresolver_new) \
    X(archive_entry_linkresolver_set_strategy) \
    X(archive_entry_mtime) \
    X(archive_entry_mtime_nsec) \
    X(archive_entry_new) \
    X(archive_entry_new2) \
    X(archive_entry_pathname) \
    X(archive_entry_set_dev) \
    X(archive_entry_set_fflags) \
    X(archive_entry_set_filetype) \
    X(archive_entry_set_gid) \
    X(archive_entry_set_gname) \
    X(archive_entry_set_ino) \
    X(archive_entry_set_mode) \
    X(archive_entry_set_mtime) \
    X(archive_entry_set_nlink) \
    X(archive_entry_set_pathname) \
    X(archive_entry_set_perm) \
    X(archive_entry_set_size) \
    X(archive_entry_set_uid) \
    X(archive_entry_set_uname) \
    X(archive_entry_size) \
    X(archive_entry_sparse_clear) \
    X(archive_entry_symlink) \
    X(archive_entry_unset_atime) \
    X(archive_entry_unset_birthtime) \
    X(archive_entry_unset_ctime) \
    X(archive_entry_xattr_add_entry) \
    X(archive_entry_xattr_clear) \
    X(archive_entry_xattr_next) \
    X(archive_entry_xattr_reset) \
    X(archive_errno) \
    X(archive_error_string) \
    X(archive_read_data) \
    X(archive_read_data_block) \
    X(archive_read_disk_descend) \
    X(archive_read_disk_entry_from_file) \
    X(archive_read_disk_new) \
    X(archive_read_disk_open) \
    X(archive_read_disk_set_symlink_physical) \
    X(archive_read_free) \
    X(archive_read_new) \
    X(archive_read_next_header) \
    X(archive_read_open) \
    X(archive_read_open_fd) \
    X(archive_read_open_filename) \
    X(archive_read_open_memory) \
    X(archive_read_support_filter_all) \
    X(archive_read_support_filter_bzip2) \
    X(archive_read_support_filter_gzip) \
    X(archive_read_support_filter_lz4) \
    X(archive_read_support_filter_lzma) \
    X(archive_read_support_filter_xz) \
    X(archive_read_support_filter_zstd) \
    X(archive_read_support_format_all) \
    X(archive_read_support_format_ar) \
    X(archive_read_support_format_raw) \
    X(archive_read_support_format_tar) \
    X(archive_set_error) \
    X(archive_write_add_filter_zstd) \
    X(archive_write_close) \
    X(archive_write_data) \
    X(archive_write_data_block) \
    X(archive_write_disk_new) \
    X(archive_write_disk_set_options) \
    X(archive_write_finish_entry) \
    X(archive_write_free) \
    X(archive_write_header) \
    X(archive_write_new) \
    X(archive_write_open) \
    X(archive_write_open_fd) \
    X(archive_write_set_bytes_in_last_block) \
    X(archive_write_set_bytes_per_block) \
    X(archive_write_set_format_pax_restricted) \
    X(archive_write_set_format_raw) \
    X(archive_write_set_option)
/* clang-format on */

FUNCTIONS(LATE_DEFINE)

int late_archive(struct dayfly_err *err)
{
    static atomic_bool loaded;
    static const struct late_function functions[] = {FUNCTIONS(LATE_ROW)};
    if (atomic_load_explicit(&loaded, memory_order_acquire))
        return 0;
    int r = late_load(LATE_ARCHIVE, functions, ARRAY_SIZE(functions), err);
    if (r == 0)
        atomic_store_explicit(&loaded, true, memory_order_release);
    return r;
}
