/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

/* The subcommands of `dayfly image` that have files of their own, and what all of them share. */

#include "command.h"
#include "util/log.h"

/* Progress and warnings, for people. */
extern const struct log image_progress;

/* image_transfer.c */
extern const struct command image_pull_command, image_push_command;

/* image_keep.c */
extern const struct command image_tag_command, image_prune_command, image_verify_command;

#endif
