/* SPDX-License-Identifier: Apache-2.0 */

/* The text of a job file, up to where the host's files would be looked at. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "job/job_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_words(const struct schema_words *words)
{
    size_t count = 0;
    while (words->words && words->words[count])
        count++;
    if (count != words->count || count > JOB_FILE_MAX_WORDS)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dayfly_config *marks;
    struct job_file file = {0};
    if (dayfly_config_new(&marks) < 0)
        return 0;
    (void)schema_parse_yaml(&job_file_schema, &file, marks, "fuzz", (const char *)data, size, "/base/",
                            NULL, NULL, NULL);
    check_words(&file.command);
    check_words(&file.env);
    check_words(&file.inherit);
    for (size_t i = 0; i < file.step_count; i++)
        check_words(&file.steps[i].command);
    if (file.step_count > JOB_FILE_MAX_STEPS)
        abort();
    schema_free(&file, job_file_schema.rows);
    dayfly_config_free(marks);
    return 0;
}
