/* SPDX-License-Identifier: Apache-2.0 */
/* `dayfly run`: a command in a fresh sandbox. */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "command.h"
#include "engine_option.h"
#include "job/audit.h"
#include "job/job.h"
#include "job/report.h"
#include "job/report_file.h"
#include "run_options.h"
#include "run_parse.h"
#include "run_tell.h"
#include "signals.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/home.h"
#include "util/trace.h"

static const struct option_row rows[] = {
    {"file", 'f', "FILE",
     "take the job from a file (see 'dayfly help job-file'); all words are then CMD",
     OPTION_STRING(struct run_options, file)},
    {"image", 0, "NAME", "the image, instead of the first word or the file's; all words are then CMD",
     OPTION_STRING(struct run_options, image)},
    JOB_ENGINE_OPTION(struct run_options, engine),
    JAIL_OPTION(struct run_options, jail),
    {"cpus", 0, "N", "processors (default: the host's, of a machine at most 8)",
     OPTION_NUMBER(struct run_options, cpus, 1, 254)},
    {"memory", 'm', "SIZE", "memory (default: 1GiB in a machine, else no limit)",
     OPTION_SIZE_ABOVE_0(struct run_options, memory)},
    {"disk", 0, "SIZE",
     "space for what the job writes, used as it is written (default: 10GiB; engine user: half of "
     "the free memory, where it is)",
     OPTION_SIZE_ABOVE_0(struct run_options, disk)},
    {"timeout", 0, "DURATION", "end the command after this time, with status 124",
     OPTION_DURATION_ABOVE_0(struct run_options, timeout)},
    {"share", 0, "SRC:DST[:OPTION,...]",
     "show the command the host's directory SRC at DST; options: rw, ro, cow and those above",
     OPTION_LIST(struct run_options, shares)},
    {"cache", 0, "NAME:DST[:ro|private|promote]",
     "show the command what earlier jobs left under NAME; what it writes is dropped (private, the "
     "default) or, with --trusted, left for later ones",
     OPTION_LIST(struct run_options, caches)},
    {"trusted", 0, NULL, "let this run's --cache NAME:DST:promote take effect, if it succeeds",
     OPTION_FLAG(struct run_options, trusted)},
    {"net", 0, "nat|none|tap:INTERFACE|socket:PATH[,OPTION...]",
     "the machine's network: its own, with ways out (the default), none, a tap interface, or a "
     "program's socket",
     OPTION_STRING(struct run_options, net)},
    {"allow", 0, "NAME|CIDR[:PORT]",
     "let the command reach this and what else is allowed, and nothing more; see above",
     OPTION_LIST(struct run_options, allow)},
    {"publish", 'p', "[ADDRESS:]HOST:GUEST[/udp]",
     "lead the host's port HOST, of 127.0.0.1 unless said otherwise, to the machine's port GUEST",
     OPTION_LIST(struct run_options, publish)},
    {"env", 'e', "NAME=VALUE",
     "set a variable of the command's environment; NAME alone takes the caller's",
     OPTION_LIST(struct run_options, env)},
    {"secret", 0, "NAME[=env:VAR|file:PATH]",
     "give the command a file /run/secrets/NAME, kept in memory; without a source the variable NAME",
     OPTION_LIST(struct run_options, secrets)},
    {"secret-env", 0, "NAME[=env:VAR|file:PATH]",
     "the same as the variable NAME of the command's environment, instead of a file",
     OPTION_LIST(struct run_options, env_secrets)},
    {"for-host", 0, "NAME=HOST[,http]",
     "give the command a placeholder for the secret NAME, and requests to HOST the secret; see above",
     OPTION_LIST(struct run_options, for_hosts)},
    {"artifact", 0, "GUEST[:HOST]",
     "copy a file or directory, or what matches a pattern, out of the machine at the end",
     OPTION_LIST(struct run_options, artifacts)},
    {"artifact-limit", 0, "SIZE", "the most that artifacts may have together (default: 10GiB)",
     OPTION_SIZE_ABOVE_0(struct run_options, artifact_limit)},
    {"artifact-required", 0, NULL, "a missing artifact is a failure, with status 125",
     OPTION_FLAG(struct run_options, artifact_required)},
    {"entrypoint", 0, "PROGRAM",
     "run this instead of the image's entrypoint, with CMD as its arguments; empty: CMD itself",
     OPTION_STRING(struct run_options, entrypoint)},
    {"workdir", 'w', "DIR", "directory in which the command starts (default: the image's)",
     OPTION_STRING(struct run_options, workdir)},
    {"user", 'u', "NAME", "user, and perhaps :GROUP, that runs it (default: the image's)",
     OPTION_STRING(struct run_options, user)},
    {"kernel", 0, "NAME", "kernel to boot (default: see 'dayfly kernel ls')",
     OPTION_STRING(struct run_options, kernel)},
    {"interactive", 'i', NULL, "give the command the caller's standard input",
     OPTION_FLAG(struct run_options, interactive)},
    {"tty", 't', NULL, "give the command a terminal", OPTION_FLAG(struct run_options, tty)},
    {"expect-state", 0, "DIGEST",
     "start only from this state (a report's start_state.digest), else fail with status 125",
     OPTION_STRING(struct run_options, expect_state)},
    {"report", 0, "FILE", "write the job's report there, as JSON",
     OPTION_STRING(struct run_options, report)},
    {"trace", 0, "FILE",
     "write the time of each phase of the run to FILE, as JSON: what 'dayfly bench boot' makes its "
     "table of",
     OPTION_STRING(struct run_options, trace)},
    {"audit", 0, NULL,
     "look at what the job leaves on the host, and end with status 125 if it is anything",
     OPTION_FLAG(struct run_options, audit)},
    {"verbose", 'v', NULL, "say how the engine was chosen and how long each part took",
     OPTION_FLAG(struct run_options, verbose)},
    {"quiet", 'q', NULL, "say nothing unless something fails", OPTION_FLAG(struct run_options, quiet)},
    {0},
};

static const struct example examples[] = {
    {"dayfly run -f job.yaml", "a job from a file"},
    {"dayfly run debian -- uname -r", "a command in a fresh Debian"},
    {"dayfly run -it debian", "a shell to look around in; all it changes is gone afterwards"},
    {"tar c . | dayfly run -i debian -- sh -c 'tar x && make test'",
     "a build of the current directory"},
    {"dayfly run --share .:/src --workdir /src debian -- make",
     "the same where it is: what make writes is there afterwards"},
    {"dayfly run --cache deps:/root/.cache:promote --trusted debian -- ./build",
     "with what the build before it had fetched, for the one after it"},
    {"dayfly run --allow example.org:443 debian -- git clone https://example.org/project.git",
     "with one place to go to and no other"},
    {"dayfly run --secret TOKEN --artifact '/src/out/*.deb' debian -- ./build",
     "with a token that stays out of sight, and packages that come out"},
    {"dayfly run --timeout 10m --memory 4GiB --report job.json debian -- make -j4",
     "with limits, and a report of what happened"},
    {0},
};

/* -- core dumps ---------------------------------------------------------------------------------------
 */

/* The layer's key is on the heap while the job runs (block/cipher.h): it goes into no core dump, of
 * this process or of what it starts. A library cannot choose that for its program. */
static void keep_no_core(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_CORE, &limit) == 0) {
        limit.rlim_cur = 0;
        setrlimit(RLIMIT_CORE, &limit);
    }
}

/* -- the audit -------------------------------------------------------------------------------- */

/* Begin it, where somebody will read it. NULL: nobody will, or it failed (err->code). */
static struct audit *begin_audit(const struct run_options *options, struct dayfly_err *err)
{
    char data[PATH_MAX], runs[PATH_MAX];
    const char *const ours[] = {data, runs, NULL};
    const struct audit_options audited = {.ours = ours};
    struct audit *audit = NULL;
    if (!options->audit && !options->report)
        return NULL;
    /* What a job orphans becomes this process' child, and is found. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        err_errno(err, errno, "become the reaper of what the job leaves");
    else if (home_data_dir(data, sizeof(data), err) == 0 && home_run_dir(runs, sizeof(runs), err) == 0)
        audit_begin(&audit, &audited, err);
    return audit;
}

static void audit_finish(struct audit **audit)
{
    audit_free(*audit);
}

/* The look after. Returns the status that the run ends with. */
static int end_audit(const struct call *call, const struct run_options *options, struct audit *audit,
                     const struct job_result *result, int status)
{
    json_t *found = audit ? audit_end(audit, result->uid) : NULL, *thing;
    size_t i;
    if (!found)
        return status;
    if (options->audit && !json_is_true(json_object_get(found, "clean"))) {
        status = EXIT_DAYFLY;
        fprintf(stderr, "%s: the job left something behind:\n", call->name);
        json_array_foreach (json_object_get(found, "left"), i, thing)
            fprintf(stderr, "  %s %s\n", json_string_value(json_object_get(thing, "kind")),
                    json_string_value(json_object_get(thing, "name")));
    }
    if (result->report)
        json_object_set(result->report, "audit", found);
    json_decref(found);
    return status;
}

/* -- the end ---------------------------------------------------------------------------------- */

static int write_trace(const struct report_file *file, const struct trace *trace,
                       struct dayfly_err *err)
{
    json_t *json = trace_json(trace);
    int r = json ? report_file_write(file, json, err) : err_set(err, ENOMEM, "out of memory");
    json_decref(json);
    return r < 0 ? err_wrap(err, "--trace") : 0;
}

/* Of a run that went its way to the end, and then of one that did not. Both return its status. */
static int finish(const struct call *call, const struct run_request *request, struct job_result *result,
                  struct audit *audit)
{
    const struct run_options *options = &request->options;
    int status = guest_result_status(&result->guest);
    tell_outcome(call, request, result, status);
    status = tell_artifacts(call, options, &result->artifacts, status);
    tell_caches(call, options, result->caches);
    json_decref(result->caches);
    if (options->verbose)
        tell_times(&result->timings);
    return end_audit(call, options, audit, result, status);
}

static int finish_failed(const struct call *call, const struct run_options *options, int r,
                         struct job_result *result, struct audit *audit, const struct dayfly_err *err)
{
    int status = r == -EINTR ? EXIT_SIGNAL + result->interrupted : command_fail(call, err);
    json_decref(result->artifacts.rows);
    json_decref(result->caches);
    json_decref(result->report);
    if (result->console) {
        tell_console(result->console);
        free(result->console);
    }
    result->report = options->report ? report_of_failure(err->msg, status) : NULL;
    return end_audit(call, options, audit, result, status);
}

/* `report` is taken. NULL: the run failed before it had one. */
static int write_report(const struct call *call, const struct report_file *file, json_t *report,
                        int status, struct dayfly_err *err)
{
    if (!report)
        report = report_of_failure(err->msg, status);
    int r = report ? report_file_write(file, report, err)
                   : err_set(err, ENOMEM, "out of memory for the report");
    json_decref(report);
    return r < 0 ? command_fail(call, err) : status;
}

/* -- the run ------------------------------------------------------------------------------------ */

/* Returns the status. *report: what there is to be said of it, if it came as far as that. */
static int run_request(const struct call *call, const struct run_request *request, json_t **report,
                       struct dayfly_err *err)
{
    static const int also[] = {SIGQUIT, SIGWINCH, 0};
    const struct run_options *options = &request->options;
    struct trace trace = {0};
    trace_mark(&trace, TRACE_MAIN);
    struct log log = {.write = log_to_stderr, .level = options->verbose ? LOG_WARN : LOG_ERROR};
    struct teller teller = {
        .options = options,
        .steps = request->steps,
        .step_count = request->step_count,
        .on_terminal = isatty(STDERR_FILENO),
    };
    keep_no_core();
    _cleanup_(run_words_finish) struct run_words words;
    if (run_words_read(request, &log, &words, err) < 0)
        return command_fail(call, err);
    _cleanup_close_ int signals = signals_catch(also, err);
    if (signals < 0)
        return command_fail(call, err);
    struct job_options job = run_job_of(request, &words);
    job.signal_fd = signals;
    job.progress = tell_progress;
    job.step = tell_step;
    job.chosen = tell_engine;
    job.opaque = &teller;
    job.log = &log;
    job.trace = options->trace ? &trace : NULL;
    struct job_result result;
    _cleanup_(report_file_finish) struct report_file trace_file = REPORT_FILE_NONE;
    if (options->trace && report_file_find(&trace_file, options->trace, err) < 0) {
        err_wrap(err, "--trace");
        return command_fail(call, err);
    }
    _cleanup_(audit_finish) struct audit *audit = begin_audit(options, err);
    if (err->code)
        return command_fail(call, err);
    int r = job_run(&job, &result, err);
    raw_terminal_leave(&teller.raw);
    int status = r == 0 ? finish(call, request, &result, audit)
                        : finish_failed(call, options, r, &result, audit, err);
    *report = result.report;
    return r == 0 && options->trace && write_trace(&trace_file, &trace, err) < 0
               ? command_fail(call, err)
               : status;
}

static int run(const struct call *call)
{
    struct dayfly_err err = {0}, ignored;
    json_t *report = NULL;
    _cleanup_(run_request_finish) struct run_request request;
    _cleanup_(report_file_finish) struct report_file file = REPORT_FILE_NONE;
    int made = run_request_make(call, &request, &err);
    const char *path = request.options.report;
    if (path && report_file_find(&file, path, made < 0 ? &ignored : &err) < 0)
        return command_fail(call, &err);
    int status = made < 0 ? command_fail(call, &err) : run_request(call, &request, &report, &err);
    return path ? write_report(call, &file, report, status, &err) : status;
}

const struct command run_command = {
    .name = "run",
    .summary = "run a command in a fresh sandbox",
    .description =
        "Makes a sandbox that did not exist a moment before (a virtual machine, unless --engine says "
        "otherwise), starts it from IMAGE, runs CMD in it and lets nothing of it stay. Without CMD the "
        "image's own command runs. Standard output and error are the command's; what dayfly has to say "
        "goes to standard error.\n\n"
        "What the job writes goes to a layer of its own above the image, on a file without a name: the "
        "next "
        "job starts from exactly the same state.\n\n"
        "--share SRC:DST shows the command a directory of the host; it may be given several times. SRC "
        "is relative to the current directory and may contain colons. DST is an absolute path in the "
        "guest, without colons, and is made where the image lacks it. Options follow a second "
        "colon, separated by commas.\n\n"
        "Of the options of --share, rw, ro and cow say what the command may do: write (the default), "
        "only read, or write without the host's directory being changed; the difference is gone with "
        "the machine, or with changes=DIR kept there for 'dayfly changes'. cache=auto, none or always "
        "says how soon it sees what the host changes: within a second, at once, perhaps never; with "
        "writeback its own writes are gathered in the guest first; with xattr files have extended "
        "attributes and access control lists. With dax=SIZE, such as dax=1GiB, "
        "large files are mapped straight from the host's page cache (engine kvm). What it makes "
        "belongs to the caller "
        "or, when that is root, to the owner of SRC, and is root's in the guest unless shown_uid=N and "
        "shown_gid=N say otherwise; with ids=identity, which is root's alone, ids are the same on both "
        "sides. What SRC contains is no part of the start state in the report.\n\n"
        "--cache shows the command at DST the files of the cache NAME, of which there is one for all "
        "jobs "
        "of a data directory; one that nobody has used before is empty. With ro it can only be read; "
        "with private, the default, it can be written to, and what was written is dropped; with "
        "promote, what was written is what the next job finds, if this run is marked --trusted and "
        "every command of it succeeds. Otherwise promote is the same as private. Nothing in a job "
        "file or a sandbox can set --trusted. Jobs that run at the same time do not see each other's "
        "writes: the first "
        "one that succeeds makes the next generation, and those that began from the one before it make "
        "none. The files are shown as root's, or of the user whose number --user says. See 'dayfly "
        "cache'.\n\n"
        "The machine has a network of its own, from which it reaches the world through the host's "
        "sockets, without privileges: everything but the host itself, link-local addresses and clouds' "
        "metadata services. --allow, which may be given several times, leaves only what it says: a "
        "name (example.org), all names below one (*.example.org), an address or network "
        "(198.51.100.0/24), each with :PORT behind it or not; host:PORT, a port of the host's "
        "loopback, "
        "which the machine finds at 10.0.2.2; * for all that there is without --allow. The report says "
        "which names were looked up and what was refused. --publish leads a port of the host to the "
        "machine. --net none: no network at all.\n\n"
        "With --net tap:INTERFACE the cable goes to a tap interface that is there already ('ip tuntap "
        "add dev tap0 mode tap user NAME multi_queue'), with --net socket:PATH to a program that "
        "listens on a Unix socket of type SOCK_SEQPACKET and speaks frames. Behind commas: "
        "address=IP/PREFIX, gateway=IP, dns=IP and search=DOMAIN, each perhaps several times, are set "
        "up before the command starts; mtu=N; mac=ADDRESS, else a random one. Without an address the "
        "device is brought up and no more.\n\n"
        "--audit looks at the host before the job and after it: processes, mounts, sockets, files, "
        "locks "
        "and more that are the job's. What is left is named, and the run ends with status 125; the "
        "report "
        "has it under \"audit\" in any case.\n\n"
        "--secret gives the command what it may know and nobody else: a file /run/secrets/NAME that "
        "only "
        "its user can read, on a file system in the sandbox's memory. The value comes from a variable "
        "of dayfly's environment, which dayfly then takes out of it, or from a file; it is never an "
        "argument. It is on no disk, in no log and no report; where the command prints it, or its "
        "base64, *** stands in its place. --secret-env gives a variable instead, which every process "
        "of the command inherits and can show.\n\n"
        "--for-host keeps a secret out of the sandbox: the file or variable has a placeholder, and in "
        "HTTPS requests to HOST (several times: to each of these) the secret takes its place on the "
        "host: in headers, in Basic credentials and in the query of a URL. The sandbox trusts an "
        "authority that is made for this job, so that requests can be looked into. Other hosts get the "
        "placeholder; without TLS HOST gets nothing, unless ,http stands behind it.\n\n"
        "-f FILE takes a job from a YAML file: an image, steps and what else describes the job. How "
        "one run "
        "is watched and trusted (--trusted, --audit, --jail, --trace, -it, -v, -q) stays with the "
        "command "
        "line, and so does --for-host so far. A step is a "
        "script for /bin/sh -e or a program; the first that fails is the last, and its status the "
        "job's. "
        "Options of the command line replace single values of the file, and add to its lists. All "
        "words "
        "are then CMD, instead of the file's command and steps.\n\n"
        "--artifact copies files out of the machine when the command has ended, however it ended, and "
        "after what it left running was killed. GUEST is a path or a pattern (*, ?, []), relative to "
        "the command's directory; HOST is what it is to be called, or a directory when it ends with a "
        "slash, is one, or GUEST is a pattern; without it, the current directory. A file replaces one "
        "of its name, a directory is added to one. Nothing appears before it is whole, and files keep "
        "the time of their last change. What is missing "
        "is said, and is in the report, which has size and SHA-256 of each file.\n\n"
        "The first Ctrl-C (SIGINT, as SIGTERM, SIGHUP, SIGQUIT) is passed on to the command; a second "
        "one, "
        "or ten seconds, ends it. While the machine still starts, a signal ends the run at once.\n\n"
        "Exit status: the command's own; 124 when --timeout ended it; 125 when dayfly itself failed, "
        "or, with a command that did not, an artifact could not be copied; "
        "126 "
        "when the command cannot be executed; 127 when it is not there; 128+N when signal N ended it.",
    .operands = "[IMAGE] [--] [CMD [ARG...]]",
    .max_operands = OPERANDS_ANY,
    .stop_after = 1,
    .rows = rows,
    .options_size = sizeof(struct run_options),
    .examples = examples,
    .run = run,
    .runs_job = true,
};
