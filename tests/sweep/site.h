/* SPDX-License-Identifier: Apache-2.0 */
/*
 * site.h - a place in the source that calls the disk or allocates (sites.h makes them)
 */
#ifndef VARVE_TESTS_SWEEP_SITE_H
#define VARVE_TESTS_SWEEP_SITE_H

#include <stdbool.h>

enum sweep_kind {
    SWEEP_MEMORY,
    SWEEP_THREAD,   /* pthread_create() */
    SWEEP_OPEN,     /* may want of descriptors; takes space when it makes a file */
    SWEEP_GROW,     /* takes space */
    SWEEP_OTHER,    /* of the disk, and neither */
    SWEEP_MANIFEST, /* the same, of LMDB */
};

struct sweep_site {
    const char *call, *file, *function;
    int line;
    enum sweep_kind kind;
    unsigned index; /* equal for what an inline function is in several files */
};

#define SWEEP_SITES_MAX 1024

/* Give each place its index, once, before any is reached; returns how many there are. */
unsigned sweep_sites_number(void);
const struct sweep_site *sweep_site_at(unsigned index);

/* 0, or the negative error that the call is to return. `creates`: an opening that makes a file. Any
 * thread. */
int sweep_strike(const struct sweep_site *site, bool creates);

/* Does the file system refuse hard links (plan_refuse_links())? */
bool sweep_refuses_links(void);

#endif
