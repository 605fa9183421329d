/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/source.h"
#include "bench/work.h"
#include "image/image.h"
#include "image/transfer.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/held_dir.h"
#include "util/home.h"
#include "util/program.h"
#include "util/text.h"
#include "util/tree.h"

#define FOLDER_PREFIX      "dayfly-bench-"
#define COLUMN_BIT(column) (1u << (column))

static size_t kind_of(const struct bench_row *row)
{
    return (size_t)(row->info - bench_rows);
}

static bool signalled(const struct bench_options *options)
{
    struct pollfd fd = {options->signal_fd, POLLIN, 0};
    return poll(&fd, 1, 0) > 0;
}

static void __attribute__((format(printf, 2, 3))) rule_out(struct bench_row *row, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(row->why, sizeof(row->why), fmt, args);
    va_end(args);
    row->works = false;
}

/* -- a run ------------------------------------------------------------------------------------ */

/* A container whose client was killed. */
static void remove_container(const struct bench_row *row, const char *name)
{
    const char *const argv[] = {row->info->program, "rm", "--force", name, NULL};
    const struct program program = {
        .argv = argv, .package = argv[0], .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    program_run(&program, NULL);
}

int prepared_run(const struct prepared *prepared, const struct bench_options *options,
                 const struct bench_row *row, const struct prepared_job *job,
                 struct run_figures *figures, struct dayfly_err *err)
{
    const char *words[BENCH_MAX_WORDS];
    const struct prepared_way *way = &prepared->ways[kind_of(row)];
    bool bare = row->info == &bench_rows[ROW_NONE];
    const struct bench_command command = {
        .image = row->info->engine ? options->image : prepared->pushed,
        .runtime = way->runtime,
        .workdir = bare ? prepared->folder : "/tmp",
        .name = prepared->container,
        .script = job->script,
        .args = {job->args[0], job->args[1]},
        .low_limits = way->low_limits,
        .network = options->network,
    };
    _cleanup_free_ char *program = row->info->engine ? NULL : program_find(row->info->program);
    if (!row->info->engine && !program)
        return err_errno(err, errno, "%s", row->info->program);
    const struct run_request request = {
        .file = row->info->engine ? "/proc/self/exe" : program,
        .argv = words,
        .stdin_fd = job->stdin_fd,
        .wants_memory = job->wants_memory,
        .limit_ns = options->limit_ns,
        .signal_fd = options->signal_fd,
    };
    bench_row_words(row->info, &command, words);
    int r = run_measure(&request, figures, err);
    if (r < 0 && !row->info->engine)
        remove_container(row, prepared->container);
    if (bare)
        tree_remove(prepared->folder_fd, WORK_FOLDER);
    return r;
}

/* -- bare metal's folder ---------------------------------------------------------------------- */

/* Where it is made unless --dir says another place. */
static int usual_parent(char parent[PATH_MAX], struct dayfly_err *err)
{
    char home[PATH_MAX];
    int r = home_data_dir(home, sizeof(home), err);
    if (r < 0)
        return r;
    if (snprintf(parent, PATH_MAX, "%s/bench", home) >= PATH_MAX)
        return err_set(err, ENAMETOOLONG, "the data directory's path is too long");
    return 0;
}

int bench_sweep(const struct sweep *sweep, struct dayfly_err *err)
{
    char parent[PATH_MAX];
    int r = usual_parent(parent, err);
    if (r < 0)
        return r;
    _cleanup_close_ int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "%s", parent);
    held_dir_sweep(fd, parent, FOLDER_PREFIX, "folder", sweep);
    return 0;
}

static int make_folder(struct prepared *p, const struct bench_options *options, struct dayfly_err *err)
{
    char parent[PATH_MAX], name[HELD_DIR_NAME_BYTES];
    int r = 0;
    if (!options->dir) {
        if ((r = usual_parent(parent, err)) < 0 || (r = home_make_dirs(parent, 0755, err)) < 0)
            return r;
    } else if (!realpath(options->dir, parent)) {
        return err_errno(err, errno, "--dir %s", options->dir);
    }
    _cleanup_close_ int parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent_fd < 0)
        return err_errno(err, errno, "%s", parent);
    held_dir_sweep(parent_fd, parent, FOLDER_PREFIX, "folder", NULL);
    p->folder_fd = held_dir_make(parent_fd, FOLDER_PREFIX, name);
    if (p->folder_fd < 0)
        return err_errno(err, -p->folder_fd, "make a directory in %s", parent);
    if (snprintf(p->folder, sizeof(p->folder), "%s/%s", parent, name) >= (int)sizeof(p->folder)) {
        tree_remove(parent_fd, name);
        return err_set(err, ENAMETOOLONG, "%s: the path is too long", parent);
    }
    return 0;
}

/* -- sources and tools ------------------------------------------------------------------------ */

static int pack_sources(struct prepared *p, struct bench *bench, struct dayfly_err *err)
{
    const struct bench_options *options = bench->options;
    struct digest digest;
    int r = 0;
    if (options->source)
        snprintf(bench->source, sizeof(bench->source), "%s", options->source);
    else
        r = source_fetch(WORK_SOURCE_PACKAGE, options->say, options->opaque, bench->source, err);
    if (r == 0)
        r = p->source_fd = work_pack(bench->source, err);
    if (r >= 0 && (r = digest_of_fd(p->source_fd, &digest, NULL)) < 0)
        return err_errno(err, -r, "%s", bench->source);
    if (r < 0)
        return r;
    digest_str(&digest, bench->source_digest);
    text_make_printable(bench->source); /* from now on it is to be shown */
    return 0;
}

static int pack(struct prepared *p, struct bench *bench, struct dayfly_err *err)
{
    const unsigned build = COLUMN_BIT(BENCH_BUILD) | COLUMN_BIT(BENCH_CPU);
    const unsigned disk = COLUMN_BIT(BENCH_READ) | COLUMN_BIT(BENCH_WRITE);
    struct dayfly_err lacks = {0};
    /* Without sources the rest can be measured all the same. */
    if (bench->columns & build && pack_sources(p, bench, &lacks) < 0) {
        bench->columns &= ~build;
        bench->source[0] = '\0';
        snprintf(bench->lacks, sizeof(bench->lacks), "build: %s", lacks.msg);
        if (!bench->columns)
            return err_set(err, lacks.code, "%s", lacks.msg);
    }
    if (!(bench->columns & disk))
        return 0;
    p->disk_fd = work_pack_disk(err);
    return p->disk_fd < 0 ? p->disk_fd : 0;
}

/* Every row has to be asked by the same program. */
static void choose_disk_tool(struct prepared *p, struct bench *bench)
{
    if (p->disk_fd < 0)
        return;
    for (size_t i = 0; i < bench->row_count; i++) {
        const struct bench_row *row = &bench->rows[i];
        if (row->works)
            snprintf(p->fio, sizeof(p->fio), "%s", row->fio);
        if (row->works && !*row->fio)
            break;
    }
    snprintf(bench->disk_tool, sizeof(bench->disk_tool), "%s", *p->fio ? p->fio : "dayfly's own");
}

/* -- rows ------------------------------------------------------------------------------------- */

/* Is the image there? And its root file system, which may have to be made anew. */
static int find_image(const char *name, struct dayfly_err *err)
{
    struct store store;
    struct image image;
    int r = store_open(&store, NULL, STORE_READ, err);
    if (r < 0)
        return r;
    r = image_open(&store, name, &image, NULL, err);
    if (r == 0)
        image_finish(&image);
    store_close(&store);
    return r;
}

static int push_image(struct prepared *p, const struct bench_options *options,
                      const struct bench_row *row, struct dayfly_err *err)
{
    char target[128], digest[DIGEST_STR_BYTES];
    struct store store;
    const struct push_options push = {.name = options->image, .target = target, .progress_fd = -1};
    snprintf(target, sizeof(target), "%s:%s", row->info->transport, p->pushed);
    int r = store_open(&store, NULL, STORE_WRITE, err);
    if (r < 0)
        return r;
    r = image_push(&store, &push, digest, err);
    store_close(&store);
    if (r == 0)
        p->has_pushed[kind_of(row)] = true;
    return r;
}

static void remove_pushed(const struct prepared *p, const struct bench_row_info *info)
{
    const char *const argv[] = {info->program, "image", "rm", "--force", p->pushed, NULL};
    const struct program program = {
        .argv = argv, .package = argv[0], .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    program_run(&program, NULL);
}

/* podman's defaults do not work everywhere: its limits may be above those of who calls it, and its
 * runtime may not know the host's cgroups. Nearest to them is what is measured, and the row says so. */
static int look_podman(struct prepared *p, const struct bench_options *options, struct bench_row *row,
                       const struct prepared_job *job, struct run_figures *figures,
                       struct dayfly_err *err)
{
    const struct prepared_way ways[] = {
        {options->runtime, false}, {options->runtime, true}, {"runc", true}};
    struct prepared_way *way = &p->ways[ROW_PODMAN];
    int r = -EIO;
    for (size_t i = 0; i < ARRAY_SIZE(ways) && r < 0 && !signalled(options); i++) {
        if (i == 2 && options->runtime)
            break;
        *way = ways[i];
        r = prepared_run(p, options, row, job, figures, err);
    }
    if (r == 0)
        snprintf(row->note, sizeof(row->note), "%s%s%s%s", way->runtime ? "--runtime " : "",
                 way->runtime ? way->runtime : "", way->runtime && way->low_limits ? ", " : "",
                 way->low_limits ? "limits of 1024 files and 4096 processes" : "");
    return r;
}

/* One run that does not count. */
static int look(struct prepared *p, const struct bench_options *options, struct bench_row *row,
                struct dayfly_err *err)
{
    const struct prepared_job job = {.script = work_look, .stdin_fd = -1};
    struct run_figures figures;
    p->ways[kind_of(row)].runtime = options->runtime;
    int r = row->info == &bench_rows[ROW_PODMAN] ? look_podman(p, options, row, &job, &figures, err)
                                                 : prepared_run(p, options, row, &job, &figures, err);
    if (r < 0)
        return r;
    snprintf(row->compiler, sizeof(row->compiler), "%s", figures.marks.compiler);
    snprintf(row->make, sizeof(row->make), "%s", figures.marks.make);
    snprintf(row->fio, sizeof(row->fio), "%s", figures.marks.fio);
    return 0;
}

/* 0: it works or is ruled out. -EINTR: a signal came. */
static int prepare_row(struct prepared *p, const struct bench_options *options, struct bench_row *row,
                       const struct dayfly_err *no_image)
{
    struct dayfly_err err = {0};
    char text[128];
    row->works = true;
    if (row->info->probe(&err) < 0) {
        rule_out(row, "%s", err.msg);
        return 0;
    }
    if (!row->info->on_host && no_image->code) {
        rule_out(row, "%s", no_image->msg);
        return 0;
    }
    snprintf(text, sizeof(text), "preparing %s", row->info->name);
    if (options->say)
        options->say(options->opaque, text);
    int r = row->info->engine ? 0 : push_image(p, options, row, &err);
    if (r == 0)
        r = look(p, options, row, &err);
    if (signalled(options))
        return -EINTR;
    if (r < 0)
        rule_out(row, "%s", err.msg);
    return 0;
}

int prepare(struct prepared *out, struct bench *bench, struct dayfly_err *err)
{
    const struct bench_options *options = bench->options;
    struct dayfly_err no_image = {0};
    *out = (struct prepared){.folder_fd = -1, .source_fd = -1, .disk_fd = -1};
    snprintf(out->container, sizeof(out->container), "dayfly-bench-%d", (int)getpid());
    snprintf(out->pushed, sizeof(out->pushed), "localhost/dayfly-bench:%d", (int)getpid());
    int r = make_folder(out, options, err);
    if (r == 0)
        r = pack(out, bench, err);
    if (r < 0)
        return r;
    if (find_image(options->image, &no_image) == -ENOENT)
        err_set(&no_image, ENOENT, "there is no image %.60s: " PREPARED_IMAGE_HINT " %.60s",
                options->image, options->image);
    for (size_t i = 0; i < bench->row_count && r == 0; i++)
        r = prepare_row(out, options, &bench->rows[i], &no_image);
    choose_disk_tool(out, bench);
    return r;
}

void prepared_finish(struct prepared *p)
{
    for (size_t kind = 0; kind < ROW_KINDS; kind++)
        if (p->has_pushed[kind])
            remove_pushed(p, &bench_rows[kind]);
    if (p->folder_fd >= 0) {
        tree_remove(AT_FDCWD, p->folder);
        close_fd(&p->folder_fd);
    }
    close_fd(&p->source_fd);
    close_fd(&p->disk_fd);
}
