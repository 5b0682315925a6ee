/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name_list.c - names of a directory
 */
#include "engine/base/name_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int name_list_add(void *context, const char *name)
{
    struct name_list *list = context;

    if (list->count == list->room) {
        size_t room = list->room * 2 + 16;
        char **grown = reallocarray(list->names, room, sizeof *grown);

        if (grown == NULL)
            return -ENOMEM;
        list->names = grown;
        list->room = room;
    }
    list->names[list->count] = strdup(name);
    if (list->names[list->count] == NULL)
        return -ENOMEM;
    list->count++;
    return 0;
}

void name_list_free(struct name_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
}
