/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_LOG_H
#define AGENT_LOG_H

/* A line for the guest's console, by way of the kernel's log. For what the host cannot be told over the
 * connection. Silent where there is no /dev/kmsg. */
void log_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
