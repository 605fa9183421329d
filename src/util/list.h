/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_LIST_H
#define UTIL_LIST_H

/* An intrusive, circular, doubly linked list. The head is a node without an element. */

#include <stdbool.h>

#include "util/arith.h"

struct list {
    struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
    l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_append(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/* Safe to call twice: a removed node is a list of its own. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* Put all of `from` behind what is in `to`, in its order. */
static inline void list_move_all(struct list *to, struct list *from)
{
    while (!list_empty(from)) {
        struct list *node = from->next;
        list_remove(node);
        list_append(to, node);
    }
}

#define list_entry(node, type, member) container_of(node, type, member)

/* Iterate; the body may remove and free `it`. */
#define list_for_each(it, tmp, head, member)                                                           \
    for (it = list_entry((head)->next, __typeof__(*it), member),                                       \
        tmp = list_entry(it->member.next, __typeof__(*it), member);                                    \
         &it->member != (head); it = tmp, tmp = list_entry(it->member.next, __typeof__(*it), member))

#endif
