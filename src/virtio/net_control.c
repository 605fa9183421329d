/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control queue (virtio 1.2, section 5.1.6.5): how many pairs are in use, the address, what the
 * driver is ready to receive.
 *
 * Limits. Receive modes and filters are agreed to and not applied, which the specification allows: a
 * driver gets more frames than it asked for, and its kernel drops them. VLAN filters, hashes and
 * announcements are not offered.
 */
#include <endian.h>
#include <string.h>

#include "util/iov.h"
#include "virtio/net_private.h"

enum { OK, ERR };

enum { CLASS_RX = 0, CLASS_MAC = 1, CLASS_MQ = 4, CLASS_GUEST_OFFLOADS = 5 };
enum { RX_PROMISC = 0, RX_ALLMULTI = 1 };
enum { MAC_TABLE_SET = 0, MAC_ADDR_SET = 1 };
enum { MQ_PAIRS_SET = 0 };
enum { GUEST_OFFLOADS_SET = 0 };

#define COMMANDS_A_TURN 64

struct command {
    uint8_t class, command;
    uint8_t data[8]; /* the first of them; none of ours has more that matter */
    uint64_t data_bytes;
};

unsigned virtio_net_guest_offloads(uint64_t features)
{
    if (!(features & VIRTIO_NET_F_GUEST_CSUM))
        return 0;
    const uint64_t uso = VIRTIO_NET_F_GUEST_USO4 | VIRTIO_NET_F_GUEST_USO6;
    return NET_OFFLOAD_CSUM | (features & VIRTIO_NET_F_GUEST_TSO4 ? NET_OFFLOAD_TSO4 : 0u) |
           (features & VIRTIO_NET_F_GUEST_TSO6 ? NET_OFFLOAD_TSO6 : 0u) |
           (features & VIRTIO_NET_F_GUEST_ECN ? NET_OFFLOAD_ECN : 0u) |
           ((features & uso) == uso ? NET_OFFLOAD_USO : 0u);
}

unsigned virtio_net_host_offloads(uint64_t features)
{
    if (!(features & VIRTIO_NET_F_CSUM))
        return 0;
    return NET_OFFLOAD_CSUM | (features & VIRTIO_NET_F_HOST_TSO4 ? NET_OFFLOAD_TSO4 : 0u) |
           (features & VIRTIO_NET_F_HOST_TSO6 ? NET_OFFLOAD_TSO6 : 0u) |
           (features & VIRTIO_NET_F_HOST_ECN ? NET_OFFLOAD_ECN : 0u) |
           (features & VIRTIO_NET_F_HOST_USO ? NET_OFFLOAD_USO : 0u);
}

static uint8_t set_receive_mode(const struct command *c)
{
    return c->command <= RX_ALLMULTI && c->data_bytes == 1 ? OK : ERR;
}

static uint8_t set_mac(struct virtio_net *n, const struct command *c)
{
    if (c->command == MAC_TABLE_SET)
        return OK;
    if (c->command != MAC_ADDR_SET || c->data_bytes != MAC_BYTES || (c->data[0] & 1))
        return ERR;
    memcpy(n->config.mac, c->data, MAC_BYTES);
    return OK;
}

static uint8_t set_pairs(struct virtio_net *n, const struct command *c)
{
    uint16_t pairs;
    memcpy(&pairs, c->data, sizeof(pairs));
    pairs = le16toh(pairs);
    if (!(n->dev.features & VIRTIO_NET_F_MQ) || c->command != MQ_PAIRS_SET ||
        c->data_bytes != sizeof(pairs) || pairs == 0 || pairs > n->net->queues)
        return ERR;
    n->pairs = pairs;
    return OK;
}

static uint8_t set_offloads(struct virtio_net *n, const struct command *c)
{
    uint64_t wanted;
    memcpy(&wanted, c->data, sizeof(wanted));
    wanted = le64toh(wanted);
    if (!(n->dev.features & VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) || c->command != GUEST_OFFLOADS_SET ||
        c->data_bytes != sizeof(wanted) || (wanted & ~n->dev.features))
        return ERR;
    n->offloads = virtio_net_guest_offloads(wanted);
    n->offloads_set = false;
    return OK;
}

static uint8_t execute(struct virtio_net *n, const struct command *c)
{
    switch (c->class) {
    case CLASS_RX:
        return set_receive_mode(c);
    case CLASS_MAC:
        return set_mac(n, c);
    case CLASS_MQ:
        return set_pairs(n, c);
    case CLASS_GUEST_OFFLOADS:
        return set_offloads(n, c);
    default:
        return ERR;
    }
}

/* One popped chain: class, command and data, and a byte for the answer. Returns the bytes written. */
static uint32_t serve(struct virtio_net *n, const struct ring_chain *chain)
{
    struct command c = {0};
    if (chain->readable_bytes < 2 || chain->writable_bytes < 1) {
        virtio_violation(&n->dev, "command of %llu bytes, with %llu for the answer",
                         (unsigned long long)chain->readable_bytes,
                         (unsigned long long)chain->writable_bytes);
        return 0;
    }
    c.data_bytes = chain->readable_bytes - 2;
    iov_copy_out(chain->iov, chain->readable, 0, &c.class, 1);
    iov_copy_out(chain->iov, chain->readable, 1, &c.command, 1);
    iov_copy_out(chain->iov, chain->readable, 2, c.data, sizeof(c.data));
    uint8_t ack = execute(n, &c);
    iov_copy_in(chain->iov + chain->readable, chain->writable, 0, &ack, sizeof(ack));
    return sizeof(ack);
}

void virtio_net_control(struct virtio_net *n)
{
    unsigned queue = virtio_net_control_queue(n), budget = COMMANDS_A_TURN;
    struct ring *ring = &n->dev.queues[queue].ring;
    struct ring_chain chain;
    do {
        ring_kicks_off(ring);
        while (budget > 0 && virtio_pop(&n->dev, queue, &chain, n->view, ARRAY_SIZE(n->view))) {
            ring_push(ring, chain.head, serve(n, &chain));
            budget--;
        }
    } while (budget > 0 && virtio_kicks_on(&n->dev, queue));
    if (budget == 0)
        virtio_net_note(n, queue);
    virtio_interrupt(&n->dev, queue);
}
