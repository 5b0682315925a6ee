/* SPDX-License-Identifier: Apache-2.0 */
/*
 * site.c - the places that the linker has collected, with numbers
 */
#include "tests/sweep/site.h"

#include <stdlib.h>
#include <string.h>

extern struct sweep_site *const __start_sweep_sites[];
extern struct sweep_site *const __stop_sweep_sites[];

static struct sweep_site *sites[SWEEP_SITES_MAX];
static unsigned site_count;

static bool is_same(const struct sweep_site *left, const struct sweep_site *right)
{
    return left->line == right->line && strcmp(left->file, right->file) == 0 &&
           strcmp(left->call, right->call) == 0;
}

static unsigned number_of(struct sweep_site *site)
{
    for (unsigned i = 0; i < site_count; i++)
        if (is_same(sites[i], site))
            return i;
    if (site_count == SWEEP_SITES_MAX)
        abort();
    sites[site_count] = site;
    return site_count++;
}

unsigned sweep_sites_number(void)
{
    for (struct sweep_site *const *at = __start_sweep_sites; at < __stop_sweep_sites; at++)
        (*at)->index = number_of(*at);
    return site_count;
}

const struct sweep_site *sweep_site_at(unsigned index)
{
    return sites[index];
}
