/* SPDX-License-Identifier: Apache-2.0 */
#include "net/net.h"

void net_destroy(struct net *net)
{
    if (net)
        net->ops->destroy(net);
}
