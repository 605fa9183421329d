/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See qmp.h. QEMU greets, then waits for qmp_capabilities; answers carry the id of their command. The
 * peer is a program of ours that a guest may have taken over: lines are bounded, and whatever is not an
 * answer or an event that we know is ignored.
 */
#include "engine/qmp.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

#define QMP_LINE_MAX 65536

struct qmp {
    struct loop_source source;
    struct loop *loop;
    void (*event)(void *opaque, const char *name, const char *reason);
    void *opaque;
    char line[QMP_LINE_MAX];
    size_t line_bytes;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t answered;
    unsigned last_id; /* of the command that was sent last */
    bool done;        /* its answer is here */
    bool closed;
    char failure[160]; /* its error; "" for success */
};

static void take_answer(struct qmp *qmp, const json_t *message)
{
    const char *desc = "";
    const json_t *error = json_object_get(message, "error");
    if (error && !(desc = json_string_value(json_object_get(error, "desc"))))
        desc = "unnamed error";
    pthread_mutex_lock(&qmp->lock);
    if (json_integer_value(json_object_get(message, "id")) == (json_int_t)qmp->last_id) {
        snprintf(qmp->failure, sizeof(qmp->failure), "%s", desc);
        qmp->done = true;
        pthread_cond_broadcast(&qmp->answered);
    }
    pthread_mutex_unlock(&qmp->lock);
}

static void take_line(struct qmp *qmp, const char *line, size_t len)
{
    json_t *message = json_loadb(line, len, 0, NULL);
    if (!message)
        return;
    const char *event = json_string_value(json_object_get(message, "event"));
    if (event) {
        const char *reason =
            json_string_value(json_object_get(json_object_get(message, "data"), "reason"));
        qmp->event(qmp->opaque, event, reason ? reason : "");
    } else if (json_object_get(message, "id")) {
        take_answer(qmp, message);
    }
    json_decref(message);
}

static void hang_up(struct qmp *qmp)
{
    loop_remove(&qmp->source);
    pthread_mutex_lock(&qmp->lock);
    qmp->closed = true;
    pthread_cond_broadcast(&qmp->answered);
    pthread_mutex_unlock(&qmp->lock);
}

static void socket_ready(struct loop_source *source, uint32_t events)
{
    struct qmp *qmp = container_of(source, struct qmp, source);
    (void)events;
    ssize_t n = recv(source->fd, qmp->line + qmp->line_bytes, sizeof(qmp->line) - qmp->line_bytes,
                     MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        hang_up(qmp);
        return;
    }
    qmp->line_bytes += (size_t)n;
    char *start = qmp->line, *newline;
    while ((newline = memchr(start, '\n', qmp->line_bytes))) {
        size_t len = (size_t)(newline - start);
        take_line(qmp, start, len);
        start = newline + 1;
        qmp->line_bytes -= len + 1;
    }
    memmove(qmp->line, start, qmp->line_bytes);
    if (qmp->line_bytes == sizeof(qmp->line))
        hang_up(qmp);
}

static void add_source(void *arg)
{
    struct qmp *qmp = arg;
    if (loop_add(qmp->loop, &qmp->source) < 0)
        hang_up(qmp);
}

int qmp_new(struct qmp **out, const struct qmp_options *options, struct dayfly_err *err)
{
    _cleanup_close_ int fd = options->fd;
    struct qmp *qmp = calloc(1, sizeof(*qmp));
    if (!qmp)
        return err_set(err, ENOMEM, "out of memory");
    qmp->loop = options->loop;
    qmp->event = options->event;
    qmp->opaque = options->opaque;
    pthread_mutex_init(&qmp->lock, NULL);
    pthread_cond_init(&qmp->answered, NULL);
    qmp->source = (struct loop_source){.fd = steal_fd(&fd), .events = EPOLLIN, .ready = socket_ready};
    int r = loop_call(options->loop, add_source, qmp);
    if (r < 0) {
        qmp_free(qmp);
        return err_errno(err, -r, "watch QEMU's control socket");
    }
    *out = qmp;
    return 0;
}

static void remove_source(void *arg)
{
    struct qmp *qmp = arg;
    loop_remove(&qmp->source);
}

void qmp_free(struct qmp *qmp)
{
    if (!qmp)
        return;
    loop_call(qmp->loop, remove_source, qmp);
    close_fd(&qmp->source.fd);
    pthread_cond_destroy(&qmp->answered);
    pthread_mutex_destroy(&qmp->lock);
    free(qmp);
}

static void deadline_in(struct timespec *ts, int timeout_ms)
{
    clock_gettime(CLOCK_MONOTONIC, ts);
    ts->tv_sec += timeout_ms / 1000;
    ts->tv_nsec += (timeout_ms % 1000) * 1000000L;
    if (ts->tv_nsec >= 1000000000L) {
        ts->tv_sec++;
        ts->tv_nsec -= 1000000000L;
    }
}

int qmp_execute(struct qmp *qmp, const char *command, int timeout_ms, struct dayfly_err *err)
{
    char text[128];
    struct timespec deadline;
    deadline_in(&deadline, timeout_ms);

    pthread_mutex_lock(&qmp->lock);
    qmp->done = false;
    qmp->last_id++;
    int len = snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"id\":%u}\n", command, qmp->last_id);
    /* A few dozen bytes always fit into a socket whose peer reads; one that does not read is broken. */
    ssize_t sent =
        qmp->closed ? -1 : send(qmp->source.fd, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
    int r = 0;
    if (sent != len)
        r = err_set(err, EPIPE, "QEMU does not take '%s'", command);
    while (r == 0 && !qmp->done && !qmp->closed)
        if (pthread_cond_clockwait(&qmp->answered, &qmp->lock, CLOCK_MONOTONIC, &deadline) == ETIMEDOUT)
            r = err_set(err, ETIMEDOUT, "QEMU did not answer '%s' in %d ms", command, timeout_ms);
    if (r == 0 && !qmp->done)
        r = err_set(err, EPIPE, "QEMU ended before it answered '%s'", command);
    if (r == 0 && qmp->failure[0])
        r = err_set(err, EIO, "QEMU refused '%s': %s", command, qmp->failure);
    pthread_mutex_unlock(&qmp->lock);
    return r;
}
