/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz the entropy device over `fake`; see driver.h. */
#include "driver.h"
#include "virtio/entropy.h"

#define OPS_MAX 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_driver d;
    struct virtio_device *dev;
    struct dayfly_err err;
    fuzz_driver_init(&d, data, size);
    check(virtio_entropy_new(&dev, d.loop, NULL, &err) == 0);
    fuzz_driver_carry(&d, dev);
    fuzz_driver_start(&d);
    for (unsigned i = 0; i < OPS_MAX && d.in.left > 0; i++)
        fuzz_driver_step(&d);
    fuzz_driver_release(&d);
    virtio_entropy_free(dev);
    fuzz_driver_finish(&d);
    return 0;
}
