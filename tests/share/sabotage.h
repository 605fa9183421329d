/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARE_SABOTAGE_H
#define SHARE_SABOTAGE_H

/*
 * A test that cannot fail proves nothing. Here a system call is made to lie: from now on it does
 * nothing and says that it succeeded (seccomp(2) with an errno of 0), as a broken file server might.
 * The exercisers offer this as --break NAME, and their own test sees that they notice.
 */

/* The names that sabotage() takes, with commas. */
const char *sabotage_names(char *buf, unsigned bytes);

#define SABOTAGE_ANYWHERE (-1)

/*
 * Make NAME lie, in this process and its children, for good. With a descriptor other than
 * SABOTAGE_ANYWHERE only calls whose first argument it is. Exits when there is no such name.
 */
void sabotage(const char *name, int first_argument);

#endif
