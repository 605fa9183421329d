/* SPDX-License-Identifier: Apache-2.0 */
#include "job/place.h"

#include "util/cleanup.h"

int place_open_shares(struct place *place, struct dayfly_err *err)
{
    const struct job_options *options = place->options;
    for (size_t i = 0; i < options->share_count; i++) {
        int r = job_share_open(&options->shares[i], err);
        if (r < 0)
            return r;
        place->share_fds[place->share_fd_count++] = r;
    }
    return 0;
}

int place_open_image(struct place *place, struct dayfly_err *err)
{
    const struct job_options *options = place->options;
    int r = store_open(&place->store, NULL, STORE_READ, err);
    return r < 0 ? r : image_open(&place->store, options->image, &place->image, options->log, err);
}

void place_close(struct place *place)
{
    for (size_t i = 0; i < place->share_fd_count; i++)
        close_fd(&place->share_fds[i]);
    image_finish(&place->image);
    store_close(&place->store);
}
