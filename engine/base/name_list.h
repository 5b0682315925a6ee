/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name_list.h - names of a directory, gathered before something is done with them
 *
 * Removing or renaming while a directory is read may skip names; so they are read first.
 * Threads: a list belongs to one.
 */
#ifndef VARVE_ENGINE_BASE_NAME_LIST_H
#define VARVE_ENGINE_BASE_NAME_LIST_H

#include <stddef.h>

/* A zeroed list is valid and empty. */
struct name_list {
    char **names; /* `count`, owned */
    size_t count, room;
};

/* A callback for io_list(), the context being the list; copies the name. 0 or -ENOMEM. */
int name_list_add(void *context, const char *name);

void name_list_free(struct name_list *list);

#endif
