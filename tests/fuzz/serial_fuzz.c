/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz the serial port: register accesses of any width at any offset, by a guest, and bytes of a host
 * that reads or does not. Checked: what it counts as buffered stays within its buffers.
 */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "hw/serial.h"
#include "program.h"
#include "util/cleanup.h"

#define OPS_MAX 2000

static void raise_line(void *opaque)
{
    ++*(unsigned *)opaque;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    signal(SIGPIPE, SIG_IGN); /* as the loop's thread has it */
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t zeroes[512];
    struct input in = {data, size};
    struct serial serial;
    struct loop *loop = NULL;
    struct dayfly_err err;
    unsigned edges = 0;
    int input[2], output[2];
    uint8_t sink[4096];
    check(pipe2(input, O_CLOEXEC | O_NONBLOCK) == 0 && pipe2(output, O_CLOEXEC | O_NONBLOCK) == 0 &&
          loop_new(&loop) == 0);
    const struct serial_options options = {
        .loop = loop, .in_fd = input[0], .out_fd = output[1], .raise = raise_line, .opaque = &edges};
    check(serial_init(&serial, &options, &err) == 0);
    for (unsigned i = 0; i < OPS_MAX && in.left > 0; i++) {
        uint8_t op = u8(&in);
        uint64_t v = 0;
        unsigned len = op & 0x40 ? 1 + u8(&in) % 8 : 1;
        if (op < 100) {
            v = u8(&in);
            serial_bus_ops.write(&serial, op % 10, &v, len);
        } else if (op < 200) {
            serial_bus_ops.read(&serial, op % 10, &v, len);
        } else if (op < 215) {
            check(serial_feed(&serial, zeroes, op * 2 - 400) <= SERIAL_FIFO_BYTES);
        } else if (op < 230 && input[1] >= 0) {
            (void)!write(input[1], zeroes, 1 + u8(&in));
        } else if (op < 240) {
            (void)!read(output[0], sink, sizeof(sink));
        } else if (op == 255) {
            close_fd(&input[1]);
        } else { /* a guest that talks */
            for (v = 0; v < 2000; v++)
                serial_bus_ops.write(&serial, 0, &v, 1);
        }
        loop_run_once(loop, 0);
        check(serial.fifo_count <= SERIAL_FIFO_BYTES &&
              serial.put - serial.taken <= SERIAL_BUFFER_BYTES);
    }
    serial_finish(&serial);
    loop_free(loop);
    close_fd(&input[0]);
    close_fd(&input[1]);
    close_fd(&output[0]);
    close_fd(&output[1]);
    return 0;
}
